// The contents of the report about a merge.
#pragma once

#include "app/findings.h"
#include "report/report.h"

namespace lewis {

// Adds to `findings.missing` what the page cannot show. Error(kInput): results of an evaluation
// that cannot be read.
Report report_of(const ReportJob& job, Findings& findings);

}  // namespace lewis
