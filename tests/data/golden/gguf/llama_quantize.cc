// What llama-quantize does, by its library, for make_types.py and for comparing whole files:
//   g++ -O2 -std=c++17 -I LLAMA/include -I LLAMA/ggml/include llama_quantize.cc
//     LIBLLAMA LIBGGML LIBGGML_CPU LIBGGML_BASE -lpthread -ldl -o llama_quantize
//   llama_quantize IN.gguf OUT.gguf FILE_TYPE THREADS [IMATRIX.gguf]
// FILE_TYPE: a number of enum llama_ftype. It prints the seconds that it took.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "ggml.h"
#include "gguf.h"
#include "llama.h"

// Mean squares per weight, as llama-quantize reads them from an importance matrix.
struct Importances {
  std::vector<std::string> names;
  std::vector<std::vector<float>> means;
};

static Importances read(const char* path) {
  Importances all;
  ggml_context* context = nullptr;
  gguf_context* file = gguf_init_from_file(path, {false, &context});
  if (!file) std::exit(2);
  for (ggml_tensor* t = ggml_get_first_tensor(context); t; t = ggml_get_next_tensor(context, t)) {
    const std::string name = t->name, end = ".in_sum2";
    if (name.size() < end.size() || name.substr(name.size() - end.size()) != end) continue;
    const std::string weight = name.substr(0, name.size() - end.size());
    const ggml_tensor* counts = ggml_get_tensor(context, (weight + ".counts").c_str());
    std::vector<float> means(ggml_nelements(t));
    for (size_t i = 0; i < means.size(); ++i) {
      const float count = static_cast<const float*>(counts->data)[i / t->ne[0]];
      means[i] = count > 0 ? static_cast<const float*>(t->data)[i] / count : 1;
    }
    all.names.push_back(weight);
    all.means.push_back(std::move(means));
  }
  gguf_free(file);
  return all;
}

int main(int count, char** words) {
  if (count < 5) return 2;
  llama_backend_init();
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level >= GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_model_quantize_params how = llama_model_quantize_default_params();
  how.ftype = static_cast<llama_ftype>(std::atoi(words[3]));
  how.nthread = std::atoi(words[4]);
  const Importances importances = count > 5 ? read(words[5]) : Importances{};
  std::vector<llama_model_imatrix_data> rows;
  for (size_t i = 0; i < importances.names.size(); ++i)
    rows.push_back(
        {importances.names[i].c_str(), importances.means[i].data(), importances.means[i].size()});
  rows.push_back({nullptr, nullptr, 0});
  if (count > 5) how.imatrix = rows.data();
  const auto begin = std::chrono::steady_clock::now();
  const uint32_t result = llama_model_quantize(words[1], words[2], &how);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  std::printf("%.2f s\n", seconds.count());
  return static_cast<int>(result);
}
