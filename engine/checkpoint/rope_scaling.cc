#include "engine/checkpoint/rope_scaling.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"

namespace modu::engine {
namespace {

constexpr double kPi = 3.14159265358979323846;

absl::Status Error(const char* field, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("rope_scaling.", field, ": ", what));
}

void ScaleLlama3(const RopeScaling& s, std::vector<double>* freqs) {
  for (double& f : *freqs) {
    const double wavelength = 2 * kPi / f;
    if (wavelength < s.original_max_position / s.high_freq_factor) continue;
    if (wavelength > s.original_max_position / s.low_freq_factor) {
      f /= s.factor;
      continue;
    }
    const double smooth = (s.original_max_position / wavelength - s.low_freq_factor) /
                          (s.high_freq_factor - s.low_freq_factor);
    f = (1 - smooth) * f / s.factor + smooth * f;
  }
}

void ScaleYarn(const RopeScaling& s, double theta, std::vector<double>* freqs) {
  const double dim = 2.0 * static_cast<double>(freqs->size());
  // The dimension whose wavelength turns `rotations` times within the original context.
  const auto correction_dim = [&](double rotations) {
    return dim * std::log(s.original_max_position / (rotations * 2 * kPi)) / (2 * std::log(theta));
  };
  double low = correction_dim(s.beta_fast), high = correction_dim(s.beta_slow);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (size_t j = 0; j < freqs->size(); ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    (*freqs)[j] = (*freqs)[j] / s.factor * ramp + (*freqs)[j] * (1 - ramp);
  }
}

double YarnAttentionScale(const RopeScaling& s) {
  const auto mscale = [&](double m) {
    return s.factor <= 1 ? 1.0 : 0.1 * m * std::log(s.factor) + 1.0;
  };
  if (s.attention_factor) return *s.attention_factor;
  if (s.mscale.value_or(0) != 0 && s.mscale_all_dim.value_or(0) != 0) {
    return mscale(*s.mscale) / mscale(*s.mscale_all_dim);
  }
  return mscale(1.0);
}

}  // namespace

absl::Status ApplyRopeScaling(const RopeScaling& s, RopeConfig* rope) {
  if (!(rope->theta > 1.0f) || !std::isfinite(rope->theta)) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope_theta: is ", rope->theta, ", must be above 1"));
  }
  std::vector<double> freqs(static_cast<size_t>(rope->rotary_dim / 2));
  for (size_t j = 0; j < freqs.size(); ++j) {
    freqs[j] = std::pow(static_cast<double>(rope->theta),
                        -2.0 * static_cast<double>(j) / rope->rotary_dim);
  }
  rope->attention_scale = 1.0f;
  if (s.type != "default" && s.type != "dynamic" && !(s.factor > 0 && std::isfinite(s.factor))) {
    return Error("factor", absl::StrCat("is ", s.factor, ", must be above 0"));
  }
  if ((s.type == "llama3" || s.type == "yarn") &&
      !(s.original_max_position > 0 && std::isfinite(s.original_max_position))) {
    return Error("original_max_position_embeddings", "is missing or not above 0");
  }
  if (s.type == "linear") {
    for (double& f : freqs) f /= s.factor;
  } else if (s.type == "llama3") {
    if (!(s.low_freq_factor > 0) || !(s.high_freq_factor > s.low_freq_factor)) {
      return Error("high_freq_factor", "must be above low_freq_factor, and that above 0");
    }
    ScaleLlama3(s, &freqs);
  } else if (s.type == "yarn") {
    if (!(s.beta_fast > 0) || !(s.beta_slow > 0))
      return Error("beta_fast", "and beta_slow must be above 0");
    ScaleYarn(s, rope->theta, &freqs);
    rope->attention_scale = static_cast<float>(YarnAttentionScale(s));
  } else if (s.type != "default" && s.type != "dynamic") {
    return absl::UnimplementedError(
        absl::StrCat("rope_scaling.rope_type: '", s.type,
                     "' is not supported (default, linear, dynamic, llama3, yarn)"));
  }
  rope->inv_freq.assign(freqs.begin(), freqs.end());
  return absl::OkStatus();
}

}  // namespace modu::engine
