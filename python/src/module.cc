// lewis._lewis: what the package lewis (python/lewis) is made of.
#include <nanobind/nanobind.h>

#include "run.h"
#include "tensors.h"
#include "verbs.h"

NB_MODULE(_lewis, module) {
  module.doc() = "The library of lewis, as the package lewis calls it. Nothing here is public.";
  nanobind::set_leak_warnings(false);  // an interpreter that ends frees no module
  lewis_python::bind_run(module);
  lewis_python::bind_jobs(module);
  lewis_python::bind_results(module);
  lewis_python::bind_verbs(module);
  lewis_python::bind_hub(module);
  lewis_python::bind_tensors(module);
}
