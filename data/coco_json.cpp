// Reads COCO JSON: a SAX handler that gathers one list entry at a time and turns it into a sample, a category or an instance.
#include "data/coco_json.h"

#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <unordered_map>

#include "data/coco_entries.h"
#include "data/json_stream.h"

namespace glia {
namespace {

enum class Section { none, images, annotations, categories };
enum class Field {
  other,
  id,
  image_id,
  category_id,
  category_name,
  file_name,
  name,
  width,
  height,
  iscrowd,
  area,
  score,
  bbox,
  segmentation
};
enum class Part { other, size, counts };
enum class FileKind { dataset, images, results };  // images: a data set of which only the images are read

Field field_of(std::string_view key) {
  static const std::unordered_map<std::string_view, Field> fields{{"id", Field::id},
                                                                  {"image_id", Field::image_id},
                                                                  {"category_id", Field::category_id},
                                                                  {"category_name", Field::category_name},
                                                                  {"file_name", Field::file_name},
                                                                  {"name", Field::name},
                                                                  {"width", Field::width},
                                                                  {"height", Field::height},
                                                                  {"iscrowd", Field::iscrowd},
                                                                  {"area", Field::area},
                                                                  {"score", Field::score},
                                                                  {"bbox", Field::bbox},
                                                                  {"segmentation", Field::segmentation}};
  const auto found = fields.find(key);
  return found == fields.end() ? Field::other : found->second;
}

// RapidJSON's events, sorted into entries by depth: the entries of a list stand at depth `list_ + 1`.
class Handler {
 public:
  Handler(CocoBuilder& builder, const CocoLimits& limits, FileKind kind)
      : builder_(builder), limits_(limits), results_(kind == FileKind::results), images_only_(kind == FileKind::images) {}

  bool annotations_deferred() const { return deferred_; }
  bool saw(Section section) const { return seen_[static_cast<size_t>(section)]; }
  void second_pass() { second_ = true, deferred_ = false, depth_ = 0, section_ = Section::none, seen_ = {}; }
  const std::string& error() const { return error_; }

  bool StartObject() {
    if (!enter()) return false;
    if (depth_ == 1 && results_) return fail("want a list of results: [{...}, ...]");
    if (depth_ == list()) index_ = 0, by_key_ = true;  // entries by key instead of a list, as some LIVECell files have them
    if (depth_ == list() + 1 && section_ != Section::none) entry_ = {}, field_ = Field::other;
    if (depth_ == list() + 2 && field_ == Field::segmentation) entry_.form = MaskForm::text, part_ = Part::other;
    if (in_field() && field_ != Field::segmentation) wrong("an object");
    if (depth_ >= list() + 3 && field_ == Field::segmentation && !skipping()) wrong("an object");
    return true;
  }
  bool EndObject(rapidjson::SizeType) {
    if (depth_ == list() + 1 && section_ != Section::none) finish_entry();
    --depth_;
    return true;
  }
  bool StartArray() {
    if (!in_place("a list", true)) return false;
    if (!enter()) return false;
    if (depth_ == 1 && !results_) return fail("a list, want an object with images, annotations and categories (a results file?)");
    if (depth_ == 1) section_ = Section::annotations;
    if (depth_ == list()) index_ = 0, by_key_ = false;
    if (in_field() && field_ == Field::segmentation) entry_.form = MaskForm::polygons;
    if (in_field() && field_ == Field::bbox) entry_.has_box = true;
    if (in_field() && field_ != Field::segmentation && field_ != Field::bbox) wrong("a list");
    if (depth_ == list() + 3 && field_ == Field::segmentation) {
      if (entry_.form == MaskForm::polygons) {
        entry_.polygons.emplace_back();
      } else if (part_ == Part::counts) {
        entry_.form = MaskForm::counts;
      }
    }
    return true;
  }
  bool EndArray(rapidjson::SizeType) {
    --depth_;
    return true;
  }
  bool Key(const char* text, rapidjson::SizeType length, bool) {
    const std::string_view key(text, length);
    if (depth_ == 1 && !results_) {
      section_ = key == "images"        ? Section::images
                 : key == "annotations" ? Section::annotations
                 : key == "categories"  ? Section::categories
                                        : Section::none;
      seen_[static_cast<size_t>(section_)] = true;
      if (section_ == Section::annotations && !second_ && !(saw(Section::images) && saw(Section::categories))) deferred_ = true;
      if (second_ && section_ != Section::annotations) section_ = Section::none;
      if (images_only_ && section_ != Section::images) section_ = Section::none;
      deferred_ = deferred_ && !images_only_;
      section_name_ = key;
    } else if (depth_ == 2 && !results_) {
      entry_key_ = key;
    } else if (depth_ == list() + 1) {
      field_ = field_of(key);
    } else if (depth_ == list() + 2 && field_ == Field::segmentation) {
      part_ = key == "size" ? Part::size : key == "counts" ? Part::counts : Part::other;
    }
    return true;
  }
  bool String(const char* text, rapidjson::SizeType length, bool) {
    if (!in_place("a string")) return false;
    if (skipping()) return true;
    if (depth_ == list() + 1) {
      std::string value(text, length);
      switch (field_) {
        case Field::id: entry_.id = std::move(value); break;
        case Field::image_id: entry_.image_id = std::move(value), entry_.image_is_text = true; break;
        case Field::category_id: entry_.category_id = std::move(value); break;
        case Field::category_name: entry_.category_name = std::move(value); break;
        case Field::file_name: entry_.file_name = std::move(value); break;
        case Field::name: entry_.name = std::move(value); break;
        case Field::other: break;
        default: wrong("a string");
      }
    } else if (depth_ == list() + 2 && field_ == Field::segmentation && part_ == Part::counts) {
      entry_.text.assign(text, length);
    } else if (depth_ >= list() + 2 && (field_ == Field::segmentation || field_ == Field::bbox) && part_ != Part::other) {
      wrong("a string");
    }
    return true;
  }
  // Numbers as they stand: RapidJSON 1.1 reads beyond a table of its own where one has hundreds of digits and a large exponent.
  bool RawNumber(const char* text, rapidjson::SizeType length, bool) {
    const char* end = text + length;
    int64_t whole = 0;
    if (const auto read = std::from_chars(text, end, whole); read.ptr == end && read.ec == std::errc{})
      return number(static_cast<double>(whole), whole, true);
    double value = 0;
    if (std::from_chars(text, end, value).ec == std::errc::result_out_of_range)
      value = std::strtod(text, nullptr);  // 0 or infinite
    if (std::isinf(value)) return fail("a number that is too large");
    const bool is_whole = std::string_view(text, length).find_first_of(".eE") == std::string_view::npos;
    return number(value, value < 0 ? INT64_MIN : INT64_MAX, is_whole);  // beyond 64 bits
  }
  bool Double(double v) { return number(v, 0, false); }  // NaN, infinity
  bool Int(int v) { return number(v, v, true); }         // these four are never called, but have to be there
  bool Uint(unsigned v) { return number(v, v, true); }
  bool Int64(int64_t v) { return number(static_cast<double>(v), v, true); }
  bool Uint64(uint64_t v) { return number(static_cast<double>(v), INT64_MAX, true); }
  bool Bool(bool v) { return in_place("true or false") && number(v, v, true); }
  bool Null() { return in_place("null"); }

 private:
  int list() const { return results_ ? 1 : 2; }
  bool skipping() const { return section_ == Section::none || (section_ == Section::annotations && deferred_); }
  // False, after a failure: a value that is no object stands where an entry is wanted, or (of a data set) where a list is; a list may
  // only be the latter. Called before the value counts for the depth.
  bool in_place(const char* got, bool is_list = false) {
    if (section_ == Section::none || depth_ < 1 || depth_ > list()) return true;
    if (depth_ < list()) {
      return is_list || fail(fmt::format("\"{}\" is {}, want a list of entries [{{...}}, ...]", section_name_, got));
    }
    if (results_) return fail(fmt::format("entry {} is {}, want an object", index_, got));
    if (!by_key_) return fail(fmt::format("{}[{}] is {}, want an object", section_name_, index_, got));
    return fail(
        fmt::format("\"{}\" is an object whose \"{}\" is {}: want a list of entries [{{...}}, ...], or an object of entries",
                    section_name_, entry_key_, got));
  }
  bool in_field() const { return depth_ == list() + 2 && !skipping() && field_ != Field::other; }

  bool fail(const std::string& error) {
    error_ = error;
    return false;
  }
  bool enter() {
    if (++depth_ <= limits_.depth) return true;
    return fail(fmt::format("nested deeper than {} levels{}", limits_.depth, raise_hint("json_depth")));
  }
  void wrong(const char* got) {
    if (entry_.wrong.empty()) entry_.wrong = fmt::format("{} where {} was expected", got, wanted());
  }
  const char* wanted() const {
    switch (field_) {
      case Field::segmentation: return "a list of polygons [[x, y, ...]] or {\"size\": [h, w], \"counts\": ...} in segmentation";
      case Field::bbox: return "numbers x, y, width, height in bbox";
      case Field::file_name: return "a string in file_name";
      case Field::width: return "a number in width";
      case Field::height: return "a number in height";
      case Field::area: return "a number in area";
      case Field::score: return "a number in score";
      case Field::iscrowd: return "0 or 1 in iscrowd";
      case Field::name: return "a string in name";
      case Field::category_name: return "a string in category_name";
      case Field::image_id: return "a number or a string in image_id";
      case Field::category_id: return "a number or a string in category_id";
      default: return "a number or a string in id";
    }
  }

  bool number(double value, int64_t whole, bool is_whole) {
    if (!in_place("a number")) return false;
    if (skipping()) return true;
    if (depth_ == list() + 1) {
      const auto id = [&] { return is_whole ? std::to_string(whole) : fmt::format("{}", value); };
      switch (field_) {
        case Field::id: entry_.id = id(); break;
        case Field::image_id: entry_.image_id = id(), entry_.image_is_text = false; break;
        case Field::category_id: entry_.category_id = id(); break;
        case Field::width: entry_.width = value; break;
        case Field::height: entry_.height = value; break;
        case Field::area: entry_.area = value; break;
        case Field::score: entry_.score = value; break;
        case Field::iscrowd: entry_.crowd = value != 0; break;
        case Field::name: entry_.name = id(); break;
        case Field::category_name: entry_.category_name = id(); break;
        case Field::other: break;
        default: wrong("a number");
      }
    } else if (depth_ == list() + 2 && field_ == Field::bbox) {
      entry_.box.push_back(value);
    } else if (depth_ == list() + 2 && field_ == Field::segmentation &&
               (entry_.form == MaskForm::polygons || part_ != Part::other)) {
      wrong("a number");
    } else if (depth_ == list() + 3 && field_ == Field::segmentation) {
      if (entry_.form == MaskForm::polygons) {
        if (!entry_.polygons.empty()) entry_.polygons.back().push_back(value);  // empty: of an object in a polygon's place
      } else if (part_ != Part::other) {
        if (!is_whole) wrong("a fraction");
        (part_ == Part::size ? entry_.size : entry_.counts).push_back(whole);
      }
    }
    return true;
  }

  void finish_entry() {
    if (!skipping()) {
      if (section_ == Section::images) builder_.add_image(entry_, index_);
      if (section_ == Section::categories) builder_.add_category(entry_, index_);
      if (section_ == Section::annotations) builder_.add_annotation(entry_, index_);
    }
    ++index_;
  }

  CocoBuilder& builder_;
  const CocoLimits& limits_;
  const bool results_, images_only_;
  bool second_ = false, deferred_ = false;
  int depth_ = 0;
  Section section_ = Section::none;
  std::array<bool, 4> seen_{};
  Field field_ = Field::other;
  Part part_ = Part::other;
  CocoEntry entry_;
  int64_t index_ = 0;
  bool by_key_ = false;                   // the section's entries stand in an object
  std::string section_name_, entry_key_;  // for messages
  std::string error_;
};

// False after a fault that ends the reading.
bool parse(const std::filesystem::path& path, Handler& handler, Faults& faults, const CocoLimits& limits) {
  JsonFileStream stream(path, limits.string_bytes);
  rapidjson::Reader reader;
  constexpr unsigned flags =
      rapidjson::kParseIterativeFlag | rapidjson::kParseNanAndInfFlag | rapidjson::kParseNumbersAsStringsFlag;
  const rapidjson::ParseResult parsed = reader.Parse<flags>(stream, handler);
  if (!parsed.IsError()) return true;
  std::string what, kind = "not JSON";
  if (stream.string_too_long()) {
    what = fmt::format("a string of more than {} bytes{}", limits.string_bytes, raise_hint("string_bytes")),
    kind = "JSON beyond the limits";
  } else if (!handler.error().empty()) {
    what = handler.error(), kind = "not COCO JSON";
  } else {
    what = std::string(rapidjson::GetParseError_En(parsed.Code())) + (stream.Peek() == '\0' ? " (file cut off?)" : "");
  }
  faults.add(Severity::stop, kind, fmt::format("{}: JSON, near byte {}: {}", path.string(), parsed.Offset(), what));
  return false;
}

CocoFile read_lists(FileKind kind, const std::filesystem::path& path, Faults& faults, const CocoLimits& limits) {
  CocoBuilder builder(path.string(), faults, limits);
  Handler handler(builder, limits, kind);
  bool whole = parse(path, handler, faults, limits);
  if (whole) {
    for (const auto& [section, name] :
         {std::pair{Section::images, "images"}, {Section::annotations, "annotations"}, {Section::categories, "categories"}}) {
      if (handler.saw(section) || (kind == FileKind::images && section != Section::images)) continue;
      builder.stop("not COCO JSON", fmt::format("no list \"{}\": is this a COCO file?", name));
      whole = false;
    }
  }
  if (whole && handler.annotations_deferred()) {  // annotations stood before images or categories: once more, for them alone
    handler.second_pass();
    parse(path, handler, faults, limits);
  }
  return std::move(builder.result);
}

}  // namespace

CocoFile read_coco(const std::filesystem::path& path, Faults& faults, const CocoLimits& limits) {
  return read_lists(FileKind::dataset, path, faults, limits);
}

CocoFile read_coco_images(const std::filesystem::path& path, Faults& faults, const CocoLimits& limits) {
  return read_lists(FileKind::images, path, faults, limits);
}

bool is_coco_results(const std::filesystem::path& path) {
  JsonFileStream stream(path, 1);
  while (stream.Peek() == ' ' || stream.Peek() == '\n' || stream.Peek() == '\r' || stream.Peek() == '\t') stream.Take();
  return stream.Peek() == '[';
}

Dataset read_coco_results(const std::filesystem::path& path, const Dataset& truth, Faults& faults, const CocoLimits& limits) {
  CocoBuilder builder(path.string(), faults, limits, truth);
  Handler handler(builder, limits, FileKind::results);
  parse(path, handler, faults, limits);
  return std::move(builder.result.dataset);
}

}  // namespace glia
