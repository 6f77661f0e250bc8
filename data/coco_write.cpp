// Writes COCO JSON, entry by entry.
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include <charconv>
#include <cmath>

#include "data/atomic_file.h"
#include "data/coco_json.h"
#include "data/rle.h"

namespace glia {
namespace {

using Buffer = rapidjson::StringBuffer;

class Json : public rapidjson::Writer<Buffer> {
 public:
  explicit Json(Buffer& buffer) : rapidjson::Writer<Buffer>(buffer) {}
  void text(const std::string& s) { String(s.data(), static_cast<rapidjson::SizeType>(s.size())); }
  void field(const char* key) { Key(key); }
  void field(const char* key, int64_t value) { Key(key), Int64(value); }
  void field(const char* key, const std::string& value) { Key(key), text(value); }
  void number(double v) {  // 12 rather than 12.0
    if (v == std::floor(v) && std::abs(v) < 1e15) {
      Int64(static_cast<int64_t>(v));
    } else {
      Double(v);
    }
  }
};

// One list of a file: "[", entries each on a line of its own, "]".
class List {
 public:
  explicit List(AtomicFile& file) : file_(file) { file_.write(std::string_view("[")); }
  template <class F>
  void entry(F&& write) {
    buffer_.Clear();
    Json json(buffer_);
    json.StartObject();
    write(json);
    json.EndObject();
    file_.write(std::string_view(first_ ? "\n" : ",\n"));
    file_.write(std::string_view(buffer_.GetString(), buffer_.GetSize()));
    first_ = false;
  }
  void end() { file_.write(std::string_view("\n]")); }

 private:
  AtomicFile& file_;
  Buffer buffer_;
  bool first_ = true;
};

void write_instance(Json& json, const Instance& instance, CocoMasks form) {
  json.field("bbox");
  json.StartArray();
  for (const double v : instance.box) json.number(v);
  json.EndArray();
  json.field("segmentation");
  json.StartObject();
  json.field("size");
  json.StartArray();
  json.Int64(instance.mask.height), json.Int64(instance.mask.width);
  json.EndArray();
  json.field("counts");
  if (form == CocoMasks::compressed) {
    json.text(to_coco_string(instance.mask));
  } else {
    json.StartArray();
    for (const uint32_t n : instance.mask.counts) json.Uint(n);
    json.EndArray();
  }
  json.EndObject();
}

int64_t category_id(const Dataset& dataset, int category) {
  GLIA_CHECK(category >= 0 && static_cast<size_t>(category) < dataset.categories.size(), "coco: category {} of {}", category,
             dataset.categories.size());
  return dataset.category_ids.empty() ? category + 1 : dataset.category_ids[static_cast<size_t>(category)];
}

std::string file_name(const Sample& sample) { return sample.file.empty() ? sample.id + ".png" : sample.file.filename().string(); }

}  // namespace

void write_coco(const std::filesystem::path& path, const Dataset& dataset, const CocoWriteOptions& options) {
  AtomicFile file(path);
  file.write(std::string_view("{\"images\": "));
  List images(file);
  for (size_t i = 0; i < dataset.samples.size(); ++i) {
    const Sample& s = dataset.samples[i];
    images.entry([&](Json& json) {
      json.field("id", static_cast<int64_t>(i) + 1);
      json.field("file_name", file_name(s));
      json.field("height", s.height);
      json.field("width", s.width);
    });
  }
  images.end();
  file.write(std::string_view(",\n\"categories\": "));
  List categories(file);
  for (size_t i = 0; i < dataset.categories.size(); ++i) {
    categories.entry([&](Json& json) {
      json.field("id", category_id(dataset, static_cast<int>(i)));
      json.field("name", dataset.categories[i]);
    });
  }
  categories.end();
  file.write(std::string_view(",\n\"annotations\": "));
  List annotations(file);
  int64_t id = 0;
  for (size_t i = 0; i < dataset.samples.size(); ++i) {
    for (const Instance& instance : dataset.samples[i].instances) {
      annotations.entry([&](Json& json) {
        json.field("id", ++id);
        json.field("image_id", static_cast<int64_t>(i) + 1);
        json.field("category_id", category_id(dataset, instance.category));
        json.field("iscrowd", instance.crowd);
        json.field("area");
        json.number(instance.area >= 0 ? instance.area : static_cast<double>(area(instance.mask)));
        if (options.scores) json.field("score"), json.Double(instance.score);
        write_instance(json, instance, options.masks);
      });
    }
  }
  annotations.end();
  file.write(std::string_view("}\n"));
  file.commit();
}

void write_coco_results(const std::filesystem::path& path, const Dataset& predictions, CocoMasks masks) {
  AtomicFile file(path);
  List results(file);
  for (const Sample& sample : predictions.samples) {
    const std::string& name = sample.source_id.empty() ? sample.id : sample.source_id;
    int64_t number = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
    const bool numeric = !sample.source_id.empty() && parsed.ec == std::errc() && parsed.ptr == name.data() + name.size();
    for (const Instance& instance : sample.instances) {
      results.entry([&](Json& json) {
        if (numeric) {
          json.field("image_id", number);
        } else {
          json.field("image_id", name);
        }
        json.field("category_id", category_id(predictions, instance.category));
        json.field("category_name", predictions.categories[static_cast<size_t>(instance.category)]);
        json.field("score"), json.Double(instance.score);
        write_instance(json, instance, masks);
      });
    }
  }
  results.end();
  file.write(std::string_view("\n"));
  file.commit();
}

}  // namespace glia
