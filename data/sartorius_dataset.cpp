// Kaggle's CSV files to instances. Rows are gathered in blocks, their run lengths decoded in parallel.
#include "data/sartorius_dataset.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_map>

#include "data/csv.h"
#include "data/rle.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

struct Row {
  size_t sample;
  int category;
  std::string runs;
  std::string place;  // "FILE:LINE"
};

int64_t to_size(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

// A short name for what rle_from_pairs found.
std::string_view kind_of(std::string_view message) {
  for (const auto& [phrase, kind] : {std::pair<std::string_view, std::string_view>{"want pairs", "odd number of run lengths"},
                                     {"starts at 0", "run that starts at 0"},
                                     {"is empty", "run of length 0"},
                                     {"starts later", "run lengths out of order"},
                                     {"overlaps", "runs that overlap"},
                                     {"ends at pixel", "run beyond the image"},
                                     {"whole numbers", "run length that is no number"}}) {
    if (message.find(phrase) != std::string_view::npos) return kind;
  }
  return "run lengths that do not fit";
}

// Adds rows to a data set's samples.
class RowDecoder {
 public:
  RowDecoder(Dataset& dataset, Faults& faults, bool keep_all) : dataset_(dataset), faults_(faults), keep_all_(keep_all) {}

  void add(Row row) {
    rows_.push_back(std::move(row));
    if (rows_.size() == block) decode();
  }

  void finish() {
    decode();
    if (looked_at_ >= 3 && other_order_ * 10 > looked_at_ * 6) {
      faults_.add(
          Severity::stop, "run lengths in the other order",
          fmt::format(
              "{}: {} of {} masks fall to shreds row by row, but are whole column by column: are the run lengths counted down "
              "the columns, as in COCO or the 2018 data?",
              first_place_, other_order_, looked_at_));
    }
  }

 private:
  static constexpr size_t block = 4096;
  static constexpr int64_t looks = 50;  // masks whose pixel order is looked at

  void decode() {
    struct Result {
      Rle mask;
      std::string error;
      bool other_order = false;
    };
    std::vector<Result> results(rows_.size());
    const int64_t to_look_at = std::min<int64_t>(looks - looked_at_, static_cast<int64_t>(rows_.size()));
    parallel_for(static_cast<int64_t>(rows_.size()), 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Row& row = rows_[static_cast<size_t>(i)];
        const Sample& s = dataset_.samples[row.sample];
        Result& result = results[static_cast<size_t>(i)];
        try {
          result.mask = rle_from_pairs(row.runs, s.height, s.width);
          if (i < to_look_at) result.other_order = other_order_fits_better(row.runs, s.height, s.width, PixelOrder::row);
        } catch (const DataError& error) {
          result.error = error.what();
        }
      }
    });
    for (size_t i = 0; i < rows_.size(); ++i) keep(rows_[i], std::move(results[i].mask), results[i].error);
    for (int64_t i = 0; i < to_look_at; ++i, ++looked_at_) other_order_ += results[static_cast<size_t>(i)].other_order;
    if (first_place_.empty() && !rows_.empty()) first_place_ = rows_[0].place;
    rows_.clear();
  }

  void keep(const Row& row, Rle mask, const std::string& error) {
    Sample& sample = dataset_.samples[row.sample];
    if (!error.empty()) {
      faults_.add(Severity::stop, kind_of(error), fmt::format("{}: image '{}': {}", row.place, sample.id, error));
      return;
    }
    if (mask.counts.size() < 2 && !keep_all_) {
      faults_.add(Severity::drop, "empty mask", fmt::format("{}: image '{}': no run lengths", row.place, sample.id));
      return;
    }
    if (static_cast<int64_t>(sample.instances.size()) >= max_instances) {
      faults_.add(Severity::stop, "too many instances",
                  fmt::format("{}: image '{}' has more than {} instances", row.place, sample.id, max_instances));
      return;
    }
    if (!keep_all_ && !sample.instances.empty() && sample.instances.back().mask == mask) {
      faults_.add(Severity::warn, "annotation twice",
                  fmt::format("{}: image '{}': the same run lengths as the row before", row.place, sample.id));
    }
    Instance instance{.mask = std::move(mask), .category = row.category};
    instance.box = bounding_box(instance.mask);
    sample.instances.push_back(std::move(instance));
  }

  Dataset& dataset_;
  Faults& faults_;
  const bool keep_all_;
  std::vector<Row> rows_;
  int64_t looked_at_ = 0, other_order_ = 0;
  std::string first_place_;
};

// One row of train.csv: its sample is found or made. Nothing when its size is impossible or not the sample's.
std::optional<size_t> sample_of(Dataset& dataset, std::unordered_map<std::string, size_t>& index, const std::string& id,
                                int64_t height, int64_t width, const std::string& place, Faults& faults) {
  if (id.empty()) {
    faults.add(Severity::stop, "row without id", fmt::format("{}: the id is empty", place));
    return std::nullopt;
  }
  if (height < 1 || width < 1 || height > max_mask_pixels / width) {
    faults.add(Severity::stop, "impossible image size",
               fmt::format("{}: image '{}': width and height have to be whole numbers from 1, at most {} pixels in all", place,
                           id, max_mask_pixels));
    return std::nullopt;
  }
  const auto [there, added] = index.emplace(id, dataset.samples.size());
  if (added) dataset.samples.push_back({id, {}, height, width, {}, {}});
  const Sample& sample = dataset.samples[there->second];
  if (sample.height != height || sample.width != width) {
    faults.add(Severity::stop, "image size changes",
               fmt::format("{}: image '{}' is {} x {} (height x width), in an earlier row {} x {}", place, id, height, width,
                           sample.height, sample.width));
    return std::nullopt;
  }
  return there->second;
}

}  // namespace

Dataset read_sartorius(const std::filesystem::path& csv, Faults& faults) {
  Dataset dataset;
  std::unordered_map<std::string, size_t> index;
  std::unordered_map<std::string, int> categories;
  RowDecoder decoder(dataset, faults, false);
  try {
    CsvReader rows(csv);
    if (!rows.has("annotation") && rows.has("predicted")) {
      throw DataError("{}: has a column 'predicted': a submission, so predictions, not a data set", csv.string());
    }
    const size_t id = rows.column("id"), runs = rows.column("annotation"), width = rows.column("width"),
                 height = rows.column("height");
    const bool typed = rows.has("cell_type");
    const size_t type = typed ? rows.column("cell_type") : 0;
    while (rows.next()) {
      const std::string place = rows.place();
      const auto sample =
          sample_of(dataset, index, std::string(rows[id]), to_size(rows[height]), to_size(rows[width]), place, faults);
      if (!sample) continue;
      const std::string name = typed && !rows[type].empty() ? std::string(rows[type]) : "cell";
      const auto [category, added] = categories.emplace(name, static_cast<int>(dataset.categories.size()));
      if (added) dataset.categories.push_back(name);
      decoder.add({*sample, category->second, std::string(rows[runs]), place});
    }
  } catch (const DataError& error) {
    if (!faults.collects()) throw;
    faults.add(Severity::stop, "broken CSV", error.what());
  }
  decoder.finish();
  if (dataset.categories.empty()) dataset.categories.push_back("cell");
  return dataset;
}

Dataset read_submission(const std::filesystem::path& csv, const Dataset& truth, Faults& faults) {
  Dataset dataset{truth.categories, {}, truth.category_ids};
  std::unordered_map<std::string, size_t> index;
  for (const Sample& s : truth.samples) {
    index.emplace(s.id, dataset.samples.size());
    dataset.samples.push_back({s.id, s.file, s.height, s.width, {}, s.source_id});
  }
  RowDecoder decoder(dataset, faults, true);
  try {
    CsvReader rows(csv);
    const size_t id = rows.column("id"), runs = rows.column("predicted");
    while (rows.next()) {
      const auto sample = index.find(std::string(rows[id]));
      if (sample == index.end()) {
        faults.add(Severity::stop, "prediction for an unknown image",
                   fmt::format("{}: image '{}' is not in the truth", rows.place(), rows[id]));
      } else if (!rows[runs].empty()) {
        decoder.add({sample->second, 0, std::string(rows[runs]), rows.place()});
      }
    }
  } catch (const DataError& error) {
    if (!faults.collects()) throw;
    faults.add(Severity::stop, "broken CSV", error.what());
  }
  decoder.finish();
  return dataset;
}

bool is_submission(const std::filesystem::path& csv) { return CsvReader(csv).has("predicted"); }

}  // namespace glia
