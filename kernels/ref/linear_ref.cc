// Embedding, norm and the matrix products, each by its formula: float64 sums in a fixed order, row
// by row.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/float_formats.h"
#include "kernels/ref/ref_device.h"

namespace modu::kernels::ref {
namespace {

const RefWeight& Weight(const PackedWeight* weight) {
  return static_cast<const RefWeight&>(*weight);
}

double* PreparedRow(Prepared prepared, int64_t cols, int row) {
  return reinterpret_cast<double*>(prepared.data) + cols * row;
}

/// Eight partial sums, so that the chain of additions is not the whole cost; their order never
/// changes.
double Dot(const double* x, const float* w, int64_t n) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane)
      sums[lane] += x[i + lane] * static_cast<double>(w[i + lane]);
  }
  double tail = 0;
  for (; i < n; ++i) tail += x[i] * static_cast<double>(w[i]);
  return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) +
         tail;
}

double Activate(Activation activation, double x) {
  if (activation == Activation::kSilu) return x / (1.0 + std::exp(-x));
  constexpr double kSqrt2OverPi = 0.79788456080286535588;
  return 0.5 * x * (1.0 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
}

}  // namespace

void RoundActivations(Rounding rounding, const float* in, int64_t cols, Centres centres,
                      double* out) {
  switch (rounding) {
    case Rounding::kFloat32:
      for (int64_t i = 0; i < cols; ++i) out[i] = in[i];
      return;
    case Rounding::kBf16:
      for (int64_t i = 0; i < cols; ++i) out[i] = Bf16ToFloat(FloatToBf16(in[i]));
      return;
    case Rounding::kInt8Groups: {
      double squares = 0;  // of the groups' largest values
      for (int64_t first = 0; first < cols; first += kInt8Group) {
        float largest = 0;
        for (int64_t i = first; i < std::min<int64_t>(cols, first + kInt8Group); ++i) {
          largest = std::max(largest, std::fabs(in[i]));
        }
        squares += static_cast<double>(largest) * largest;
      }
      for (int64_t first = 0; first < cols; first += kInt8Group) {
        const int64_t last = std::min<int64_t>(cols, first + kInt8Group);
        float low = in[first], high = in[first];
        bool finite = true;
        for (int64_t i = first; i < last; ++i) {
          finite = finite && std::isfinite(in[i]);
          low = std::min(low, in[i]);
          high = std::max(high, in[i]);
        }
        // Steps as the fast kernels have them, in float32, so that both round to the same one.
        const float middle = 0.5f * low + 0.5f * high;
        const float most = std::max(high, -low);
        const float from_middle = std::max(high - middle, middle - low);
        const double gain =
            static_cast<double>(most) * most - static_cast<double>(from_middle) * from_middle;
        const bool lopsided =
            centres == Centres::kWhereTheyGain && gain >= 0.015 * squares && squares > 0;
        const float centre = lopsided ? middle : 0.0f;
        const float reach = lopsided ? from_middle : most;
        const float scale = reach >= 1e-36f ? reach / kInt8Steps : 0.0f;
        const float inverse = reach >= 1e-36f ? kInt8Steps / reach : 0.0f;
        for (int64_t i = first; i < last; ++i) {
          out[i] = finite ? centre + std::nearbyint((in[i] - centre) * inverse) *
                                         static_cast<double>(scale)
                          : std::numeric_limits<double>::quiet_NaN();
        }
      }
      return;
    }
  }
}

void Embed(Device&, const EmbedParams& p) {
  const RefWeight& table = Weight(p.table);
  const std::vector<float>& rows = table.table.empty() ? table.values : table.table;
  const int64_t width = table.cols();
  for (int t = 0; t < p.num_tokens; ++t) {
    const int64_t id = p.token_ids[t];
    MODU_CHECK(id >= 0 && id < table.rows());
    const float scale = table.row_scales[static_cast<size_t>(id)] * p.scale;
    for (int64_t i = 0; i < width; ++i) {
      p.hidden[t * width + i] = rows[static_cast<size_t>(id * width + i)] * scale;
    }
  }
}

void KeepRows(Device&, const KeepRowsParams& p) {
  for (int i = 0; i < p.num_rows; ++i) {
    for (int64_t j = 0; j < p.width; ++j) {
      p.data[i * p.stride + j] = p.data[p.rows[i] * p.stride + j];
    }
  }
}

void Norm(Device&, const NormParams& p) {
  const RefWeight& consumer = Weight(p.consumer);
  MODU_CHECK(consumer.cols() == p.width);
  std::vector<float> row(static_cast<size_t>(p.width));
  for (int t = 0; t < p.num_tokens; ++t) {
    const float* in = p.hidden + static_cast<int64_t>(p.rows == nullptr ? t : p.rows[t]) * p.width;
    double squares = 0;
    for (int i = 0; i < p.width; ++i) squares += static_cast<double>(in[i]) * in[i];
    const double inverse = p.weight == nullptr ? 1.0 : 1.0 / std::sqrt(squares / p.width + p.eps);
    for (int i = 0; i < p.width; ++i) {
      const double weight = p.weight == nullptr ? 1.0 : p.weight[i];
      row[static_cast<size_t>(i)] = static_cast<float>(in[i] * inverse * weight);
    }
    RoundActivations(consumer.rounding, row.data(), p.width, Centres::kWhereTheyGain,
                     PreparedRow(p.out, p.width, t));
  }
}

void Linear(Device&, const LinearParams& p) {
  const RefWeight& weight = Weight(p.weight);
  const int64_t cols = weight.cols();
  for (int64_t n = 0; n < weight.rows(); ++n) {
    const float* row = weight.values.data() + n * cols;
    const double scale = weight.row_scales[static_cast<size_t>(n)];
    const double bias = p.bias == nullptr ? 0.0 : p.bias[n];
    for (int t = 0; t < p.num_tokens; ++t) {
      float& out = p.out[t * p.out_stride + n];
      const double value = Dot(PreparedRow(p.in, cols, t), row, cols) * scale + bias;
      out = static_cast<float>(p.accumulate ? out + value : value);
    }
  }
}

void GatedLinear(Device&, const GatedLinearParams& p) {
  const RefWeight& weight = Weight(p.weight);
  const RefWeight& consumer = Weight(p.consumer);
  const int64_t cols = weight.cols(), width = weight.rows() / 2;
  MODU_CHECK(weight.use == WeightUse::kGatedLinear && consumer.cols() == width);
  std::vector<float> row(static_cast<size_t>(width));
  for (int t = 0; t < p.num_tokens; ++t) {
    const double* in = PreparedRow(p.in, cols, t);
    for (int64_t n = 0; n < width; ++n) {
      const double gate = Dot(in, weight.values.data() + n * cols, cols) *
                              weight.row_scales[static_cast<size_t>(n)] +
                          (p.bias == nullptr ? 0.0 : p.bias[n]);
      const double up = Dot(in, weight.values.data() + (n + width) * cols, cols) *
                            weight.row_scales[static_cast<size_t>(n + width)] +
                        (p.bias == nullptr ? 0.0 : p.bias[n + width]);
      row[static_cast<size_t>(n)] = static_cast<float>(Activate(p.activation, gate) * up);
    }
    RoundActivations(consumer.rounding, row.data(), width,
                     width == kInt8Group ? Centres::kWhereTheyGain : Centres::kNone,
                     PreparedRow(p.out, width, t));
  }
}

}  // namespace modu::kernels::ref
