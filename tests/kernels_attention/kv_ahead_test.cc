// What is listed of the next attention's KV: all that its rows see, once, up to the bound, cut into
// shares that leave nothing out.
#include "kernels/cpu/kv_ahead.h"

#include <vector>

#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/linear_kernels.h"
#include "tests/catch.h"

namespace modu::kernels::cpu {
namespace {

constexpr int kStride = 8;  // of the block table

struct Sequences {
  CpuKvCache cache{KvLayout{4, 3, 64, kKvBlockTokens, DType::kBF16}, 64};
  std::vector<int32_t> cu_seqlens = {0, 1, 2, 4};
  std::vector<int32_t> seq_lens = {33, 64, 130};
  // The first two begin with the same block.
  std::vector<int32_t> block_table = {5,  9,  -1, -1, -1, -1, -1, -1,   //
                                      5,  11, -1, -1, -1, -1, -1, -1,   //
                                      20, 21, 22, 23, 24, -1, -1, -1};  //
  AttentionParams params{};

  Sequences() {
    params.num_tokens = 4;
    params.num_seqs = 3;
    params.kv = &cache;
    params.layer = 2;
    params.cu_seqlens = cu_seqlens.data();
    params.seq_lens = seq_lens.data();
    params.block_table = block_table.data();
    params.block_table_stride = kStride;
  }

  /// Pieces of whole blocks in that order.
  std::vector<const std::byte*> PiecesOf(const std::vector<int>& blocks) const {
    const std::byte* const layer = cache.Head(params.layer, 0);
    std::vector<const std::byte*> pieces;
    for (const int block : blocks) {
      for (int64_t at = 0; at < cache.geometry().layer_bytes; at += kFetchPiece) {
        pieces.push_back(layer + block * cache.geometry().block_stride + at);
      }
    }
    return pieces;
  }
};

std::vector<const std::byte*> SharesOf(const KvAhead& ahead, int calls) {
  std::vector<const std::byte*> all;
  for (int call = 0; call < calls; ++call) {
    const FetchPieces share = ahead.Share(call);
    for (const int64_t at : share.at) all.push_back(share.from + at);
  }
  return all;
}

constexpr int64_t kPlenty = int64_t{1} << 40;

TEST_CASE("The KV ahead is what the rows see, a common block once, in shares of all of it") {
  Sequences sequences;
  KvAhead ahead;
  for (const int calls : {1, 7, 96, 1000}) {
    ahead.List(&sequences.params, kPlenty, calls);
    CHECK(SharesOf(ahead, calls) == sequences.PiecesOf({5, 9, 11, 20, 21, 22, 23, 24}));
    for (int call = 0; call < calls; ++call)
      CHECK(ahead.Share(call).at.size() <= 96u / static_cast<unsigned>(calls) + 1);
  }
  sequences.params.window = 40;  // rows at 32, 63, 128 and 129: the first seen are 0, 24, 89 and 90
  ahead.List(&sequences.params, kPlenty, 3);
  CHECK(SharesOf(ahead, 3) == sequences.PiecesOf({5, 9, 11, 22, 23, 24}));
  sequences.params.window = 8;  // 25, 56, 121 and 122
  ahead.List(&sequences.params, kPlenty, 3);
  CHECK(SharesOf(ahead, 3) == sequences.PiecesOf({5, 9, 11, 23, 24}));
}

TEST_CASE("The KV ahead leaves out of a common beginning only what is listed") {
  Sequences sequences;
  sequences.seq_lens = {130, 130, 33};
  sequences.cu_seqlens = {0, 1, 2, 4};
  sequences.block_table = {20, 21, 22, 23, 24, -1, -1, -1,  //
                           20, 7,  22, 23, 25, -1, -1, -1,  // parts at its second block, for good
                           20, 7,  -1, -1, -1, -1, -1, -1};
  KvAhead ahead;
  ahead.List(&sequences.params, kPlenty, 4);
  CHECK(SharesOf(ahead, 4) == sequences.PiecesOf({20, 21, 22, 23, 24, 7, 22, 23, 25}));
  CHECK(ahead.Share(4).at.empty());
  CHECK(ahead.Share(1000).at.empty());
  sequences.params.window = 8;  // the last one's first rows see what those before it no longer do
  ahead.List(&sequences.params, kPlenty, 4);
  CHECK(SharesOf(ahead, 4) == sequences.PiecesOf({23, 24, 25, 20, 7}));
}

TEST_CASE("The KV ahead ends at its bound, and is nothing where nothing comes or nothing fits") {
  Sequences sequences;
  KvAhead ahead;
  ahead.List(&sequences.params, 5 * kFetchPiece + 1, 2);
  auto first = sequences.PiecesOf({5});
  first.resize(5);
  CHECK(SharesOf(ahead, 2) == first);
  ahead.List(&sequences.params, 0, 2);
  CHECK(SharesOf(ahead, 2).empty());
  ahead.List(nullptr, kPlenty, 2);
  CHECK(SharesOf(ahead, 2).empty());
}

TEST_CASE(
    "The KV ahead of a step's other layers is the same blocks', of other steps what they read") {
  Sequences sequences;
  AttentionParams& params = sequences.params;
  KvAhead ahead;
  params.step = 7;
  const std::vector<int> all = {5, 9, 11, 20, 21, 22, 23, 24};
  for (params.layer = 0; params.layer < 4; ++params.layer) {
    ahead.List(&params, kPlenty, params.layer + 1);
    CHECK(SharesOf(ahead, params.layer + 1) == sequences.PiecesOf(all));
  }
  params.layer = 3;
  params.window = 40;  // a layer that sees less
  ahead.List(&params, kPlenty, 3);
  CHECK(SharesOf(ahead, 3) == sequences.PiecesOf({5, 9, 11, 22, 23, 24}));
  params.window = 0;
  ahead.List(&params, kPlenty, 3);
  CHECK(SharesOf(ahead, 3) == sequences.PiecesOf(all));
  ahead.List(nullptr, kPlenty, 3);
  CHECK(SharesOf(ahead, 3).empty());
  ahead.List(&params, kFetchPiece, 3);
  CHECK(SharesOf(ahead, 3).size() == 1);
  // Listed once: what lies there now is not looked at.
  ahead.List(&params, kPlenty, 3);
  sequences.block_table[1] = 12;
  params.layer = 1;
  ahead.List(&params, kPlenty, 3);
  CHECK(SharesOf(ahead, 3) == sequences.PiecesOf(all));
  const CpuKvCache other(KvLayout{4, 3, 64, kKvBlockTokens, DType::kBF16}, 64);
  params.kv = &other;
  ahead.List(&params, kPlenty, 3);
  CHECK(SharesOf(ahead, 3).front() == other.Head(1, 0) + 5 * other.geometry().block_stride);
  CHECK(SharesOf(ahead, 3)[12] == other.Head(1, 0) + 12 * other.geometry().block_stride);
  params.kv = &sequences.cache;
  // The same memory holds other batches afterwards.
  params.step = 8;
  sequences.block_table[1] = 13;
  ahead.List(&params, kPlenty, 2);
  CHECK(SharesOf(ahead, 2) == sequences.PiecesOf({5, 13, 11, 20, 21, 22, 23, 24}));
  params.step = 0;  // nothing is known
  sequences.block_table[1] = 14;
  ahead.List(&params, kPlenty, 2);
  sequences.block_table[1] = 15;
  ahead.List(&params, kPlenty, 2);
  CHECK(SharesOf(ahead, 2) == sequences.PiecesOf({5, 15, 11, 20, 21, 22, 23, 24}));
}

}  // namespace
}  // namespace modu::kernels::cpu
