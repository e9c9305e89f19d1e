// Inside of the plain backend: how it holds weights, activations and KV. Only kernels/ref includes
// this. Weights lie dequantised as float32, already rounded to what the numerics mode multiplies
// with; a Prepared is one float64 a value, already rounded to what the mode multiplies with, so
// that every product below is a plain one.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "kernels/ops.h"

namespace modu::kernels::ref {

/// What a row of activations is rounded to before a matrix product.
enum class Rounding : uint8_t { kFloat32, kBf16, kInt8Groups };

constexpr int kInt8Group = 32;
constexpr float kInt8Steps = 119.25f;  // to either side of a group's middle

class RefWeight final : public PackedWeight {
 public:
  RefWeight(std::span<const WeightSource> parts, WeightUse use, Numerics numerics);

  Rounding rounding = Rounding::kFloat32;
  WeightUse use = WeightUse::kLinear;
  std::vector<float> values;      // [N, K], as multiplied
  std::vector<float> row_scales;  // [N], 1 but for F8
  std::vector<float>
      table;  // [N, K] before rounding; ReadByRows only, and only where rounding changed something
};

/// [block][layer][k, v][kv_head][block_size][head_dim] of float32 or bf16; in float32 what codes
/// leave of values, where the layout asks for those.
class RefKvCache final : public KvCache {
 public:
  RefKvCache(const KvLayout& layout, int64_t num_blocks);
  /// Index of the first of head_dim elements; part: 0 is K, 1 is V.
  int64_t Index(int64_t slot, int layer, int part, int kv_head) const;
  void Store(int64_t index, const float* values);
  void Load(int64_t index, float* values) const;

 private:
  std::vector<float> f32_;
  std::vector<uint16_t> bf16_;
};

/// What int8 steps count from: zero, or the middle of a group's range where that gains much.
enum class Centres : uint8_t { kNone, kWhereTheyGain };

/// Rounds `cols` activations as `rounding` says; int8: a group of 32 to kInt8Steps steps on either
/// side of zero, or of the middle of its range where that takes 1.5 % off the sum of the squares of
/// all groups' largest values. One with a NaN or an infinity becomes NaN.
void RoundActivations(Rounding rounding, const float* in, int64_t cols, Centres centres,
                      double* out);

void Embed(Device&, const EmbedParams& p);
void KeepRows(Device&, const KeepRowsParams& p);
void Norm(Device&, const NormParams& p);
void Linear(Device&, const LinearParams& p);
void GatedLinear(Device&, const GatedLinearParams& p);
void RopeTable(Device&, const RopeTableParams& p);
void Qkv(Device&, const QkvParams& p);
void Attention(Device&, const AttentionParams& p);

}  // namespace modu::kernels::ref
