// How long work tells its caller how far it is: Progress, ProgressFn. Nothing below cli/ prints.
#pragma once

#include <lewis/progress.h>
