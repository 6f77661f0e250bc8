// Writes synthetic pictures as a data set in the Sartorius layout.
#include <algorithm>

#include "data/atomic_file.h"
#include "data/image_io.h"
#include "data/rle.h"
#include "data/synth.h"
#include "tensor/parallel.h"

namespace glia {
namespace {

// One row per instance: id,annotation,width,height,cell_type,plate_time,sample_date,sample_id,elapsed_timedelta
std::string csv_rows(const SynthImage& picture, const std::string& cell_type) {
  const Sample& s = picture.sample;
  std::string rows;
  for (const Instance& instance : s.instances) {
    rows += fmt::format("{},{},{},{},{},00h00m00s,2000-01-01,synthetic_{},0 days 00:00:00\n", s.id, to_pairs(instance.mask),
                        s.width, s.height, cell_type, s.id);
  }
  return rows;
}

void create_empty_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder, error)) {
    if (!std::filesystem::is_directory(folder)) throw IoError("{}: exists and is not a folder", folder.string());
    if (!std::filesystem::is_empty(folder)) {
      throw IoError("{}: the folder is not empty; synthetic data goes into a new one, so that nothing is mixed or lost",
                    folder.string());
    }
  }
  for (const char* part : {"train", "labels"}) {
    std::filesystem::create_directories(folder / part, error);
    if (error) throw IoError("{}: cannot create the folder: {}", (folder / part).string(), error.message());
  }
}

}  // namespace

SynthSummary write_synth(const SynthOptions& options, const std::filesystem::path& folder) {
  const std::vector<std::string> classes = synth_classes(options);
  create_empty_folder(folder);
  std::vector<std::string> rows(static_cast<size_t>(options.images));
  std::vector<int64_t> instances(rows.size());
  parallel_for(options.images, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const SynthImage picture = synth_image(options, i);
      write_png(folder / "train" / (picture.sample.id + ".png"), picture.image);
      write_label_map(folder / "labels" / picture.sample.id, picture.labels);
      rows[static_cast<size_t>(i)] = csv_rows(picture, classes[static_cast<size_t>(i % options.classes)]);
      instances[static_cast<size_t>(i)] = static_cast<int64_t>(picture.sample.instances.size());
    }
  });
  AtomicFile csv(folder / "train.csv");
  csv.write(std::string_view("id,annotation,width,height,cell_type,plate_time,sample_date,sample_id,elapsed_timedelta\n"));
  for (const std::string& text : rows) csv.write(std::string_view(text));
  csv.commit();
  SynthSummary summary{.images = options.images};
  for (const int64_t n : instances) summary.instances += n;
  return summary;
}

}  // namespace glia
