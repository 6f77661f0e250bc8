// The report of check-data as text and as JSON.
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

#include "data/check_data.h"

namespace glia {
namespace {

std::string line_of(const char* name, const Spread& s, const char* format) {
  const auto number = [&](double v) { return v < 1000 ? fmt::format(fmt::runtime(format), v) : fmt::format("{:.0f}", v); };
  return fmt::format("  {:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", name, number(s.min), number(s.p25), number(s.median),
                     number(s.p75), number(s.max), number(s.mean));
}

std::string counts_of(const std::map<std::string, int64_t>& counts) {
  std::string text;
  size_t listed = 0;
  for (const auto& [name, count] : counts) {
    if (++listed > 6) return text + fmt::format(", and {} more", counts.size() - 6);
    text += fmt::format("{}{} ({})", listed > 1 ? ", " : "", name, count);
  }
  return text;
}

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void text_field(Writer& json, const char* key, const std::string& text) {
  json.Key(key);
  json.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}

void spread_field(Writer& json, const char* key, const Spread& s) {
  json.Key(key);
  json.StartObject();
  for (const auto& [name, value] :
       {std::pair{"min", s.min}, {"p25", s.p25}, {"median", s.median}, {"p75", s.p75}, {"max", s.max}, {"mean", s.mean}}) {
    json.Key(name);
    json.Double(value);
  }
  json.EndObject();
}

void counts_field(Writer& json, const char* key, const std::map<std::string, int64_t>& counts) {
  json.Key(key);
  json.StartObject();
  for (const auto& [name, count] : counts) {
    json.Key(name.c_str());
    json.Int64(count);
  }
  json.EndObject();
}

void fault_objects(Writer& json, const std::vector<Fault>& faults) {
  json.Key("faults");
  json.StartArray();
  for (const Fault& fault : faults) {
    json.StartObject();
    text_field(json, "kind", fault.kind);
    text_field(json, "severity", std::string(name_of(fault.severity)));
    json.Key("count");
    json.Int64(fault.count);
    json.Key("examples");
    json.StartArray();
    for (const std::string& e : fault.examples) json.String(e.data(), static_cast<rapidjson::SizeType>(e.size()));
    json.EndArray();
    json.EndObject();
  }
  json.EndArray();
}

}  // namespace

std::string to_text(const DataReport& r) {
  std::string text = fmt::format("{} ({})\n", r.path, r.layout);
  text += fmt::format("  {} images, {} instances, {} images without instances", r.images, r.instances, r.negatives);
  text += r.crowds ? fmt::format(", {} crowd regions\n", r.crowds) : "\n";
  if (r.images > 0) {
    text += fmt::format("  sizes (height x width): {}\n", counts_of(r.sizes));
    if (!r.pixels.empty())
      text +=
          fmt::format("  pixels: {}; mean {:.1f}, standard deviation {:.1f}\n", counts_of(r.pixels), r.mean_value, r.deviation);
    text += fmt::format("\n  {:<26}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}\n", "", "min", "25 %", "median", "75 %", "max", "mean");
    text += line_of("instances per image", r.per_image, "{:.4g}");
    text += line_of("area (pixels)", r.area, "{:.4g}");
    text += line_of("diameter (pixels)", r.diameter, "{:.1f}");
    text += line_of("covered part of an image", r.foreground, "{:.3f}");
    text += fmt::format("\n  {:<26}{:>10}{:>10}{:>14}\n", "class", "images", "instances", "median area");
    for (const ClassFacts& c : r.classes)
      text += fmt::format("  {:<26}{:>10}{:>10}{:>14.0f}\n", c.name, c.images, c.instances, c.area.median);
  }
  if (!r.faults.empty()) text += "\nfaults\n";
  for (const Fault& fault : r.faults) {
    text += fmt::format("  {:<5} {} ({})\n", name_of(fault.severity), fault.kind, fault.count);
    for (size_t i = 0; i < std::min<size_t>(3, fault.examples.size()); ++i)
      text += fmt::format("        {}\n", fault.examples[i]);
    if (fault.count > 3 && fault.examples.size() > 3) text += "        ...\n";
  }
  text += r.stops() ? "\nThis data cannot be trained on: the faults marked `stop` have to be mended first.\n"
                    : "\nThis data can be trained on.\n";
  return text;
}

std::string to_json(const DataReport& r) {
  rapidjson::StringBuffer buffer;
  Writer json(buffer);
  json.StartObject();
  text_field(json, "path", r.path);
  text_field(json, "layout", r.layout);
  json.Key("ok");
  json.Bool(!r.stops());
  for (const auto& [key, value] : {std::pair{"images", r.images},
                                   {"instances", r.instances},
                                   {"crowds", r.crowds},
                                   {"negatives", r.negatives},
                                   {"overlapping_pixels", r.overlapping_pixels},
                                   {"overlapping_instances", r.overlapping_instances}}) {
    json.Key(key);
    json.Int64(value);
  }
  spread_field(json, "instances_per_image", r.per_image);
  spread_field(json, "area", r.area);
  spread_field(json, "diameter", r.diameter);
  spread_field(json, "foreground", r.foreground);
  counts_field(json, "sizes", r.sizes);
  counts_field(json, "pixels", r.pixels);
  json.Key("mean_value");
  json.Double(r.mean_value);
  json.Key("deviation");
  json.Double(r.deviation);
  json.Key("classes");
  json.StartArray();
  for (const ClassFacts& c : r.classes) {
    json.StartObject();
    text_field(json, "name", c.name);
    json.Key("images");
    json.Int64(c.images);
    json.Key("instances");
    json.Int64(c.instances);
    spread_field(json, "area", c.area);
    json.EndObject();
  }
  json.EndArray();
  fault_objects(json, r.faults);
  json.EndObject();
  return std::string(buffer.GetString(), buffer.GetSize()) + "\n";
}

}  // namespace glia
