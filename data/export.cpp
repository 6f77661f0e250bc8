#include "data/export.h"

#include <fmt/format.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "data/atomic_file.h"
#include "data/contours.h"
#include "data/rle.h"

namespace glia {
namespace {

const std::string& category_name(const Instance& instance, const std::vector<std::string>& categories) {
  static const std::string unknown;
  const auto i = static_cast<size_t>(instance.category);
  return i < categories.size() ? categories[i] : unknown;
}

std::string quoted(const std::string& text) {  // RFC 4180
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string result = "\"";
  for (const char c : text) result += c == '"' ? std::string("\"\"") : std::string(1, c);
  return result + "\"";
}

struct Moments {
  double x = 0, y = 0;   // sums of pixel centres
  double intensity = 0;  // sum over pixels of the mean over channels
};

// Walks the runs of a mask (column-major) once.
Moments moments(const Rle& mask, const Tensor& image) {
  Moments m;
  const Tensor values = image ? image.cast(DType::float64) : Tensor();
  const int64_t channels = image && image.rank() == 3 ? image.dim(2) : 1;
  int64_t at = 0;
  for (size_t i = 0; i < mask.counts.size(); at += mask.counts[i++]) {
    if (i % 2 == 0) continue;
    for (int64_t p = at; p < at + mask.counts[i]; ++p) {
      const int64_t x = p / mask.height, y = p % mask.height;
      m.x += double(x);
      m.y += double(y);
      if (!values) continue;
      for (int64_t c = 0; c < channels; ++c)
        m.intensity += values.data<double>()[(y * mask.width + x) * channels + c] / double(channels);
    }
  }
  return m;
}

}  // namespace

std::string cells_csv_header() {
  return "id,instance,class,area,perimeter,center_x,center_y,box_x,box_y,box_width,box_height,mean_intensity,score\n";
}

std::string cells_csv_rows(const Sample& sample, const std::vector<std::string>& categories, const Tensor& image) {
  if (image && (image.dim(0) != sample.height || image.dim(1) != sample.width))
    throw DataError("{}: image is {}, its instances are on {} x {}", sample.id, image.shape(), sample.height, sample.width);
  std::string rows;
  int number = 0;
  for (const Instance& instance : sample.instances) {
    const double pixels = double(area(instance.mask));
    double perimeter = 0;
    for (const Contour& contour : contours(instance.mask, ContourPoints::all, ContourParts::every))
      perimeter += contour_length(contour);
    const Moments m = moments(instance.mask, image);
    const Box box = bounding_box(instance.mask);
    const double n = pixels > 0 ? pixels : 1;
    rows += fmt::format("{},{},{},{},{:.2f},{:.2f},{:.2f},{},{},{},{},{},{:.6g}\n", quoted(sample.id), ++number,
                        quoted(category_name(instance, categories)), pixels, perimeter, m.x / n, m.y / n, box[0], box[1], box[2],
                        box[3], image ? fmt::format("{:.3f}", m.intensity / n) : "", instance.score);
  }
  return rows;
}

void write_geojson(const std::filesystem::path& path, const Sample& sample, const std::vector<std::string>& categories) {
  rapidjson::StringBuffer buffer;
  rapidjson::Writer<rapidjson::StringBuffer> json(buffer);
  json.StartObject();
  json.Key("type");
  json.String("FeatureCollection");
  json.Key("features");
  json.StartArray();
  for (const Instance& instance : sample.instances) {
    for (const Contour& contour : contours(instance.mask, ContourPoints::simple, ContourParts::every)) {
      json.StartObject();
      json.Key("type");
      json.String("Feature");
      json.Key("geometry");
      json.StartObject();
      json.Key("type");
      json.String("Polygon");
      json.Key("coordinates");
      json.StartArray();
      json.StartArray();
      const auto point = [&](const std::array<int32_t, 2>& p) {
        json.StartArray();
        json.Int(p[0]);
        json.Int(p[1]);
        json.EndArray();
      };
      for (const auto& p : contour.points) point(p);
      point(contour.points.front());  // rings are closed
      json.EndArray();
      json.EndArray();
      json.EndObject();
      json.Key("properties");
      json.StartObject();
      json.Key("objectType");
      json.String("annotation");
      json.Key("classification");
      json.StartObject();
      json.Key("name");
      json.String(category_name(instance, categories).c_str());
      json.EndObject();
      json.Key("score");
      json.Double(instance.score);
      json.EndObject();
      json.EndObject();
    }
  }
  json.EndArray();
  json.EndObject();
  write_file(path, std::string_view(buffer.GetString(), buffer.GetSize()));
}

}  // namespace glia
