// Kaggle's Sartorius CSV files; see the header.
#include "data/sartorius.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>
#include <set>
#include <unordered_map>

#include "data/csv.h"
#include "data/limits.h"
#include "data/rle.h"
#include "tensor/error.h"

namespace glia {
namespace {

constexpr const char* damaged_row = "damaged CSV";

// The kind of a fault in run lengths, by what data/rle.h says of them.
const char* kind_of(std::string_view message) {
  static constexpr std::array<std::array<const char*, 2>, 7> kinds{{{"want pairs", "odd number of run lengths"},
                                                                    {"starts at 0", "run that starts at 0"},
                                                                    {"is empty", "run of length 0"},
                                                                    {"the image has", "run beyond the image"},
                                                                    {"starts later", "run lengths out of order"},
                                                                    {"overlaps", "runs that overlap"},
                                                                    {"whole numbers", "run length that is no number"}}};
  for (const auto& [phrase, kind] : kinds) {
    if (message.find(phrase) != message.npos) return kind;
  }
  return "wrong run lengths";
}

// "704" or, as pandas writes whole numbers of a column with gaps, "704.0". -1 for anything else.
int64_t side_of(std::string_view text) {
  if (text.ends_with(".0")) text.remove_suffix(2);
  int64_t n = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  return error == std::errc{} && end == text.data() + text.size() && n > 0 ? n : -1;
}

// An id is the name of a file in the images' folder.
bool is_file_name(std::string_view id) {
  return !id.empty() && id != "." && id != ".." && id.find_first_of(std::string_view("/\\\0", 3)) == id.npos;
}

// Calls `row` for each record; damage of the file itself ends the reading.
void for_each_row(CsvReader& csv, Faults& faults, const std::function<void()>& row) {
  for (;;) {
    try {
      if (!csv.next()) return;
    } catch (const DataError& e) {
      faults.add(Severity::stop, damaged_row, e.what());
      return;
    }
    row();
  }
}

// Reads the masks of a file's rows and watches what they have in common.
class MaskReader {
 public:
  MaskReader(const CsvReader& csv, Faults& faults) : csv_(csv), faults_(faults) {}

  // Adds the mask to the sample, or a fault.
  void add(std::string_view pairs, int category, double score, Sample& sample) {
    if (pairs.find_first_not_of(" \t") == pairs.npos) {
      empty_.emplace_back(sample.id, csv_.place());
      return;
    }
    Instance instance;
    try {
      instance.mask = rle_from_pairs(pairs, sample.height, sample.width);
    } catch (const DataError& e) {
      faults_.add(Severity::stop, kind_of(e.what()), fmt::format("{}: image \"{}\": {}", csv_.place(), sample.id, e.what()));
      return;
    }
    instance.category = category;
    instance.score = score;
    instance.box = bounding_box(instance.mask);
    if (static_cast<int64_t>(sample.instances.size()) >= file_limits().instances) {
      faults_.add(Severity::stop, "too many instances",
                  fmt::format("{}: image \"{}\": more than {} instances{}", csv_.place(), sample.id, file_limits().instances,
                              raise_hint("instances")));
      return;
    }
    if (!seen_[sample.id].insert(std::hash<std::string_view>{}(pairs)).second)
      faults_.add(Severity::warn, "annotation twice",
                  fmt::format("{}: image \"{}\": the same mask as in an earlier row", csv_.place(), sample.id));
    ++masks_;
    shreds_ += other_order_fits_better(pairs, sample.height, sample.width, PixelOrder::row);
    sample.instances.push_back(std::move(instance));
  }

  // An image's only row may be empty (no cells); an empty one among others is dropped.
  void finish(const std::vector<Sample>& samples) const {
    std::unordered_map<std::string_view, size_t> rows;
    for (const Sample& sample : samples) rows[sample.id] = sample.instances.size();
    for (const auto& [id, place] : empty_) ++rows[id];
    for (const auto& [id, place] : empty_) {
      if (rows[id] > 1) faults_.add(Severity::drop, "empty mask", fmt::format("{}: image \"{}\": no run lengths", place, id));
    }
    if (2 * shreds_ > masks_)
      faults_.add(
          Severity::stop, "run lengths in the other order",
          fmt::format("{}: {} of {} masks are whole only when read column by column; want pixels counted row by row (were "
                      "they written for another competition, or are width and height swapped?)",
                      csv_.name(), shreds_, masks_));
  }

 private:
  const CsvReader& csv_;
  Faults& faults_;
  int64_t masks_ = 0, shreds_ = 0;
  std::vector<std::pair<std::string, std::string>> empty_;  // id and place of rows without a mask
  std::unordered_map<std::string, std::set<size_t>> seen_;  // hashes of an image's masks
};

// Names to places in a list that grows.
class Names {
 public:
  int of(std::string_view name, std::vector<std::string>& list) {
    const auto [found, added] = places_.try_emplace(std::string(name), static_cast<int>(list.size()));
    if (added) list.emplace_back(name);
    return found->second;
  }

 private:
  std::unordered_map<std::string, int> places_;
};

// The checked sample of the current row: found among `samples`, or added; null after a fault.
Sample* sample_of_row(const CsvReader& csv, std::string_view id, std::string_view width, std::string_view height,
                      std::unordered_map<std::string, size_t>& index, std::vector<Sample>& samples, Faults& faults) {
  if (!is_file_name(id)) {
    faults.add(Severity::stop, "wrong id",
               id.empty() ? fmt::format("{}: the id is empty", csv.place())
                          : fmt::format("{}: id \"{}\" leads out of the images' folder; want a file's name", csv.place(), id));
    return nullptr;
  }
  const int64_t w = side_of(width), h = side_of(height);
  if (w < 0 || h < 0 || h > file_limits().pixels / w) {
    faults.add(Severity::stop, "impossible image size",
               fmt::format("{}: image \"{}\": width \"{}\", height \"{}\"; want whole numbers from 1, at most {} pixels in all{}",
                           csv.place(), id, width, height, file_limits().pixels, raise_hint("pixels")));
    return nullptr;
  }
  const auto [found, added] = index.try_emplace(std::string(id), samples.size());
  if (added) {
    samples.emplace_back();
    samples.back().id = id;
    samples.back().height = h;
    samples.back().width = w;
  }
  Sample& sample = samples[found->second];
  if (sample.height == h && sample.width == w) return &sample;
  faults.add(Severity::stop, "image size changes",
             fmt::format("{}: image \"{}\": width {} and height {}, but {} and {} in an earlier row", csv.place(), id, w, h,
                         sample.width, sample.height));
  return nullptr;
}

}  // namespace

Dataset read_sartorius(const std::filesystem::path& path, Faults& faults) {
  CsvReader csv(path);
  if (csv.has("predicted") && !csv.has("annotation"))
    throw DataError("{}: a submission (columns {}), so predictions; a data set has the columns id, annotation, width, height",
                    path.string(), fmt::join(csv.header(), ", "));
  const size_t id = csv.column("id"), annotation = csv.column("annotation"), width = csv.column("width"),
               height = csv.column("height");
  const bool has_type = csv.has("cell_type");
  const size_t type = has_type ? csv.column("cell_type") : 0;
  Dataset dataset;
  std::unordered_map<std::string, size_t> index;
  Names categories;
  MaskReader masks(csv, faults);
  for_each_row(csv, faults, [&] {
    Sample* sample = sample_of_row(csv, csv[id], csv[width], csv[height], index, dataset.samples, faults);
    if (!sample) return;
    const std::string_view name = has_type ? csv[type] : std::string_view("cell");
    if (name.empty()) {
      faults.add(Severity::stop, "no cell type", fmt::format("{}: image \"{}\": cell_type is empty", csv.place(), sample->id));
      return;
    }
    masks.add(csv[annotation], categories.of(name, dataset.categories), 1, *sample);
  });
  masks.finish(dataset.samples);
  if (dataset.categories.empty()) dataset.categories.emplace_back("cell");
  return dataset;
}

Dataset read_submission(const std::filesystem::path& path, const Dataset& truth, Faults& faults) {
  CsvReader csv(path);
  const size_t id = csv.column("id"), predicted = csv.column(csv.has("annotation") ? "annotation" : "predicted");
  const bool has_type = csv.has("cell_type"), has_score = csv.has("score");
  const size_t type = has_type ? csv.column("cell_type") : 0, score = has_score ? csv.column("score") : 0;
  Dataset dataset;
  dataset.categories = truth.categories;
  dataset.category_ids = truth.category_ids;
  std::unordered_map<std::string_view, size_t> index;
  for (const Sample& sample : truth.samples) {
    index[sample.id] = dataset.samples.size();
    dataset.samples.push_back({sample.id, sample.file, sample.height, sample.width, {}, sample.source_id});
  }
  MaskReader masks(csv, faults);
  for_each_row(csv, faults, [&] {
    const auto found = index.find(csv[id]);
    if (found == index.end()) {
      faults.add(Severity::stop, "unknown image",
                 fmt::format("{}: image \"{}\" is not among the {} of the truth", csv.place(), csv[id], truth.samples.size()));
      return;
    }
    size_t category = 0;
    if (has_type) {
      const auto& names = truth.categories;
      category = static_cast<size_t>(std::find(names.begin(), names.end(), csv[type]) - names.begin());
      if (category == names.size()) {
        faults.add(Severity::stop, "unknown category",
                   fmt::format("{}: cell_type \"{}\"; the truth has {}", csv.place(), csv[type], fmt::join(names, ", ")));
        return;
      }
    }
    double value = 1;
    if (has_score) {
      const std::string_view text = csv[score];
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc{} || end != text.data() + text.size() || !(value >= 0 && value <= 1)) {
        faults.add(Severity::stop, "wrong score", fmt::format("{}: score \"{}\", want a number from 0 to 1", csv.place(), text));
        return;
      }
    }
    masks.add(csv[predicted], static_cast<int>(category), value, dataset.samples[found->second]);
  });
  masks.finish(dataset.samples);
  return dataset;
}

void write_sartorius(const std::filesystem::path& path, const Dataset& dataset) {
  AtomicFile file(path);
  file.write(std::string_view("id,annotation,width,height,cell_type,plate_time,sample_date,sample_id,elapsed_timedelta\n"));
  for (const Sample& sample : dataset.samples) {
    const auto row = [&](const std::string& pairs, int category) {
      file.write(fmt::format("{},{},{},{},{},,,,\n", csv_field(sample.id), pairs, sample.width, sample.height,
                             csv_field(dataset.categories.at(static_cast<size_t>(category)))));
    };
    bool any = false;
    for (const Instance& instance : sample.instances) {
      if (instance.crowd) continue;
      any = true;
      row(to_pairs(instance.mask), instance.category);
    }
    if (!any) row("", 0);
  }
  file.commit();
}

void write_submission(const std::filesystem::path& path, const Dataset& predictions) {
  std::string text = "id,predicted\n";
  for (const Sample& sample : predictions.samples) {
    if (sample.instances.empty()) text += csv_field(sample.id) + ",\n";
    std::vector<Rle> masks;
    int64_t covered = 0;
    for (const Instance& instance : sample.instances) {
      text += fmt::format("{},{}\n", csv_field(sample.id), to_pairs(instance.mask));
      masks.push_back(instance.mask);
      covered += area(instance.mask);
    }
    if (!masks.empty() && area(merge(masks)) != covered)
      throw DataError("{}: image \"{}\": instances overlap, which Kaggle refuses; give each pixel to one instance first",
                      path.string(), sample.id);
  }
  // What Kaggle will read must be what was predicted.
  CsvReader csv(text, path.string());
  for (const Sample& sample : predictions.samples) {
    for (size_t i = 0; i < std::max<size_t>(sample.instances.size(), 1); ++i) {
      const bool same =
          csv.next() && csv[0] == sample.id &&
          (sample.instances.empty() ? csv[1].empty()
                                    : rle_from_pairs(csv[1], sample.height, sample.width) == sample.instances[i].mask);
      GLIA_CHECK(same, "{}: image \"{}\": instance {} does not decode to its mask", path.string(), sample.id, i + 1);
    }
  }
  write_file(path, text);
}

}  // namespace glia
