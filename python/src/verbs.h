// The jobs, results and verbs of lewis/lewis.h for Python.
#pragma once

#include <nanobind/nanobind.h>

#include <lewis/recipe.h>

namespace lewis_python {

// lewis::Recipe is incomplete outside the library.
struct Recipe {
  lewis::RecipePtr pointer;
};

// What becomes of keys of a recipe that nobody knows.
lewis::UnknownKeys unknown_keys(bool lenient);

void bind_jobs(nanobind::module_& module);
void bind_results(nanobind::module_& module);
void bind_verbs(nanobind::module_& module);
void bind_hub(nanobind::module_& module);

}  // namespace lewis_python
