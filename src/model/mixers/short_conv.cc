// The gated short convolution of LFM 2: in_proj gives B, C and x; y = C conv(B x).
#include <array>
#include <vector>

#include "model/config_reader.h"
#include "model/mixer.h"
#include "model/mixers/recurrent.h"

namespace lewis {
namespace {

constexpr std::string_view kPlace = "conv.";

class GatedShortConv final : public Mixer {
 public:
  GatedShortConv(int64_t kernel, bool bias) : kernel_(kernel), bias_(bias) {}

  Value describe(BlockBuilder& block, Value x) const override {
    const int64_t width = block.spec().hidden;
    block.own_tensor("conv.conv.weight", {width, 1, kernel_});
    if (bias_) block.own_tensor("conv.conv.bias", {width});
    const Value all = block.linear(kPlace, {"in_proj", 3 * width}, x, bias_);
    const Value mixed = block.mix({all}, std::array{width})[0];
    return block.linear(kPlace, {"out_proj", width}, mixed, bias_);
  }

  // in: B, C, x [rows, 3, hidden].
  void mix(const MixCall& call) const override {
    const int64_t width = call.spec.hidden;
    const float* in = call.in[0];
    float* out = call.out[0];
    const auto for_rows = [&](const auto& f) {
      call.threads.run(static_cast<size_t>(call.rows), [&](size_t row) {
        const auto r = static_cast<int64_t>(row);
        f(in + r * 3 * width, out + r * width);
      });
    };
    for_rows([&](const float* from, float* to) {
      for (int64_t i = 0; i < width; ++i) to[i] = from[i] * from[2 * width + i];
    });
    CallStates states(call, (kernel_ - 1) * width, 0);
    const std::span<const float> bias = bias_ ? call.own[1] : std::span<const float>();
    run_short_conv({width, kernel_, call.own[0], bias}, call, states, out);
    states.finish(call);
    for_rows([&](const float* from, float* to) {
      for (int64_t i = 0; i < width; ++i) to[i] *= from[width + i];
    });
  }

  std::unique_ptr<MixerState> new_state(const ModelSpec& spec, int64_t) const override {
    return std::make_unique<RecurrentState>((kernel_ - 1) * spec.hidden, 0);
  }

  bool equals(const Mixer& other) const override {
    const auto* conv = dynamic_cast<const GatedShortConv*>(&other);
    return conv && conv->kernel_ == kernel_ && conv->bias_ == bias_;
  }

 private:
  int64_t kernel_;
  bool bias_;
};

constexpr std::array<GgmlName, 2> kNames = {{
    {"conv.in_proj", "shortconv.in_proj", ""},
    {"conv.out_proj", "shortconv.out_proj", ""},
}};

}  // namespace

extern const MixerRow kShortConv;
const MixerRow kShortConv = {"short_conv",
                             [](const ConfigReader& config) -> MixerPtr {
                               return std::make_shared<GatedShortConv>(
                                   config.parts("conv_L_cache"),
                                   config.boolean("conv_bias", false));
                             },
                             kNames};

}  // namespace lewis
