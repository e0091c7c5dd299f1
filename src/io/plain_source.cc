#include "io/plain_source.h"

#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"
#include "io/cast_source.h"
#include "io/quantization.h"
#include "io/quantized_source.h"

namespace lewis {

PlainModel show_plain(std::shared_ptr<const TensorSource> source, const Json& config) {
  refuse_packed(config, source->label());
  PlainModel plain;
  CastModel cast = cast_odd_floats(std::move(source));
  if (!cast.cast.empty()) {
    plain.notes.push_back(
        fmt::format("{}: {} tensor{} of a float type of their own widened or rounded ({} first)",
                    cast.source->label(), cast.cast.size(), cast.cast.size() == 1 ? " is" : "s are",
                    cast.cast.front()));
  }
  WidenedSource widened = widen_quantized(std::move(cast.source), config);
  plain.source = std::move(widened.source);
  plain.was_quantized = !widened.note.empty();
  if (plain.was_quantized) plain.notes.push_back(std::move(widened.note));
  return plain;
}

PlainModel show_plain(std::shared_ptr<const Checkpoint> model) {
  const bool has_config = has_model_file(model->folder(), "config.json");
  const JsonBox config = has_config ? JsonBox(model->config()) : JsonBox::object();
  bool understood = false;
  try {
    understood = read_quantization(*config, model->label()).has_value();
    return show_plain(std::shared_ptr<const TensorSource>(model), *config);
  } catch (const Error& e) {
    if (understood) throw;
    return {model, {fmt::format("{}; its tensors are shown as they are stored", e.what())}};
  }
}

}  // namespace lewis
