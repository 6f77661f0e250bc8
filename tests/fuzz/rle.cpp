#include "data/rle.h"

#include <charconv>
#include <string_view>

#include "tensor/error.h"
#include "tests/fuzz/targets.h"

namespace glia::tests {
namespace {

// Whatever was read must write and read back the same.
void check_round_trip(const Rle& rle) {
  const bool same = rle_from_coco_string(to_coco_string(rle), rle.height, rle.width).counts == rle.counts &&
                    rle_from_pairs(to_pairs(rle), rle.height, rle.width).counts == rle.counts &&
                    encode_mask(decode_mask(rle)).counts == rle.counts;
  GLIA_CHECK(same, "a mask of {} runs does not read back as it was written", rle.counts.size());
}

}  // namespace

// The first two bytes are the image's height and width, the third says which text the others are.
void fuzz_rle(Bytes bytes) {
  if (bytes.size() < 3) return;
  const auto height = static_cast<int64_t>(bytes[0]), width = static_cast<int64_t>(bytes[1]);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 3, bytes.size() - 3);
  try {
    switch (static_cast<int>(bytes[2]) % 4) {
      case 0: return check_round_trip(rle_from_pairs(text, height, width, PixelOrder::row));
      case 1: return check_round_trip(rle_from_pairs(text, height, width, PixelOrder::column));
      case 2: return check_round_trip(rle_from_coco_string(text, height, width));
      default: {
        std::vector<int64_t> counts;  // one per byte, and negative ones
        for (const char c : text) counts.push_back(c);
        return check_round_trip(rle_from_counts(counts, height, width));
      }
    }
  } catch (const DataError&) {
  }
}

}  // namespace glia::tests
