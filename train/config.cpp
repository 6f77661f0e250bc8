// Reading, checking and comparing configurations, all by walking the table of config_keys.h.
#include "train/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tensor/error.h"
#include "tensor/nearest.h"
#include "train/config_keys.h"
#include "train/config_toml.h"

namespace glia {
namespace {

constexpr double unbounded = std::numeric_limits<double>::infinity();

std::string section_of(std::string_view key) { return std::string(key.substr(0, key.find('.'))); }

// " (did you mean X?)", or nothing where no name is near.
std::string suggestion(const std::string& got, const std::vector<std::string>& known) {
  const std::string near = nearest_name(got, known);
  return near.empty() ? "" : fmt::format(" (did you mean {}?)", near);
}

// The same for a dotted key: "solver.rate" is near "solver.lr" only by its last part, so that is looked at when the whole is not.
std::string key_suggestion(const std::string& got) {
  std::vector<std::string> names, last_parts;
  for (const ConfigKey& key : config_keys()) {
    names.push_back(key.name);
    last_parts.push_back(key.name.substr(key.name.find('.') + 1));
  }
  if (const std::string whole = suggestion(got, names); !whole.empty()) return whole;
  const std::string near = nearest_name(got.substr(got.find('.') + 1), last_parts);
  for (size_t i = 0; i < names.size(); ++i)
    if (!near.empty() && last_parts[i] == near) return fmt::format(" (did you mean {}?)", names[i]);
  return "";
}

std::string range_text(const ConfigKey& key) {
  if (key.low == -unbounded && key.high == unbounded) return "";
  return fmt::format(" from {:g} to {:g}", key.low, key.high);
}

// What the key takes, for messages: "an integer from 1 to 8".
std::string wanted(const ConfigKey& key, const ConfigSlot& slot) {
  struct Name {
    const ConfigKey& key;
    std::string operator()(bool*) const { return "true or false"; }
    std::string operator()(int64_t*) const { return "an integer" + range_text(key); }
    std::string operator()(double*) const { return "a number" + range_text(key); }
    std::string operator()(std::string*) const {
      return key.choices.empty() ? "a text" : fmt::format("one of {}", fmt::join(key.choices, ", "));
    }
    std::string operator()(ImageSize*) const { return "N or [H, W], integers" + range_text(key); }
    std::string operator()(Every*) const { return "\"epoch\" or a number of steps" + range_text(key); }
    std::string operator()(CellDiameter*) const { return "\"auto\" or a number" + range_text(key); }
    std::string operator()(std::vector<double>*) const { return "a list of numbers" + range_text(key); }
    std::string operator()(std::vector<std::string>*) const { return "a list of texts"; }
    std::string operator()(NumberMap*) const { return "{name = number, ...} with numbers" + range_text(key); }
  };
  return std::visit(Name{key}, slot);
}

// TOML for a value as it was read, for messages.
std::string shown(const TomlValue& v) {
  struct Show {
    std::string operator()(std::monostate) const { return "a date or time"; }
    std::string operator()(bool b) const { return b ? "true" : "false"; }
    std::string operator()(int64_t i) const { return fmt::format("{}", i); }
    std::string operator()(double d) const { return toml_number(d); }
    std::string operator()(const std::string& s) const { return toml_quoted(s); }
    std::string operator()(const TomlList& list) const {
      std::vector<std::string> items;
      for (const TomlValue& item : list) items.push_back(shown(item));
      return fmt::format("[{}]", fmt::join(items, ", "));
    }
    std::string operator()(const TomlTable& table) const {
      std::vector<std::string> items;
      for (const auto& [name, item] : table) items.push_back(fmt::format("{} = {}", toml_quoted(name), shown(item)));
      return fmt::format("{{{}}}", fmt::join(items, ", "));
    }
  };
  return std::visit(Show{}, v.value);
}

// Moves a TOML value into a slot; false when its type or range is not the key's.
struct Assign {
  const ConfigKey& key;
  const TomlValue& from;

  static bool number(const TomlValue& v, double& to) {
    if (const auto* i = std::get_if<int64_t>(&v.value)) {
      to = static_cast<double>(*i);
    } else if (const auto* d = std::get_if<double>(&v.value)) {
      to = *d;
    } else {
      return false;
    }
    return true;
  }
  bool number_in_range(const TomlValue& v, double& to) const { return number(v, to) && to >= key.low && to <= key.high; }
  bool integer(const TomlValue& v, int64_t& to) const {
    const auto* i = std::get_if<int64_t>(&v.value);
    double as_double = 0;
    if (!i || !number_in_range(v, as_double)) return false;
    to = *i;
    return true;
  }

  bool operator()(bool* to) const {
    const auto* b = std::get_if<bool>(&from.value);
    if (b) *to = *b;
    return b != nullptr;
  }
  bool operator()(int64_t* to) const { return integer(from, *to); }
  bool operator()(double* to) const { return number_in_range(from, *to); }
  bool operator()(std::string* to) const {
    const auto* s = std::get_if<std::string>(&from.value);
    if (!s) return false;
    if (!key.choices.empty() && std::find(key.choices.begin(), key.choices.end(), *s) == key.choices.end()) return false;
    *to = *s;
    return true;
  }
  bool operator()(ImageSize* to) const {
    if (integer(from, to->height)) {
      to->width = to->height;
      return true;
    }
    const auto* list = std::get_if<TomlList>(&from.value);
    return list && list->size() == 2 && integer((*list)[0], to->height) && integer((*list)[1], to->width);
  }
  bool operator()(Every* to) const {
    const auto* s = std::get_if<std::string>(&from.value);
    if (!s) return integer(from, to->steps);
    to->steps = 0;
    return *s == "epoch";
  }
  bool operator()(CellDiameter* to) const {
    const auto* s = std::get_if<std::string>(&from.value);
    to->automatic = s != nullptr;
    if (!s) return number_in_range(from, to->pixels);
    to->pixels = 0;
    return *s == "auto";
  }
  bool operator()(std::vector<double>* to) const {
    const auto* list = std::get_if<TomlList>(&from.value);
    if (!list) return false;
    to->assign(list->size(), 0);
    for (size_t i = 0; i < list->size(); ++i)
      if (!number_in_range((*list)[i], (*to)[i])) return false;
    return true;
  }
  bool operator()(std::vector<std::string>* to) const {
    const auto* list = std::get_if<TomlList>(&from.value);
    if (!list) return false;
    to->clear();
    for (const TomlValue& item : *list) {
      const auto* s = std::get_if<std::string>(&item.value);
      if (!s) return false;
      to->push_back(*s);
    }
    return true;
  }
  bool operator()(NumberMap* to) const {
    const auto* table = std::get_if<TomlTable>(&from.value);
    if (!table) return false;
    to->clear();
    for (const auto& [name, item] : *table) {
      to->emplace_back(name, 0.0);
      if (!number_in_range(item, to->back().second)) return false;
    }
    return true;
  }
};

// `place` starts messages ("recipe.toml:12: "), `origin` is remembered.
void assign(Config& config, const std::string& name, const TomlValue& value, const std::string& place,
            const std::string& origin) {
  const ConfigKey* key = find_config_key(name);
  if (!key) throw UsageError("{}unknown key \"{}\"{}", place, name, key_suggestion(name));
  const ConfigSlot slot = key->slot(config);
  if (!std::visit(Assign{*key, value}, slot)) {
    const auto* text = std::get_if<std::string>(&value.value);
    throw UsageError("{}{} = {}: want {}{}", place, name, shown(value), wanted(*key, slot),
                     text ? suggestion(*text, key->choices) : "");
  }
  config.origins[name] = origin;
}

}  // namespace

std::string value_text(const ConfigSlot& slot) {
  struct Text {
    static std::string list(const std::vector<std::string>& items) { return fmt::format("[{}]", fmt::join(items, ", ")); }
    std::string operator()(const bool* b) const { return *b ? "true" : "false"; }
    std::string operator()(const int64_t* i) const { return fmt::format("{}", *i); }
    std::string operator()(const double* d) const { return toml_number(*d); }
    std::string operator()(const std::string* s) const { return toml_quoted(*s); }
    std::string operator()(const ImageSize* s) const { return fmt::format("[{}, {}]", s->height, s->width); }
    std::string operator()(const Every* e) const { return e->steps ? fmt::format("{}", e->steps) : "\"epoch\""; }
    std::string operator()(const CellDiameter* d) const { return d->automatic ? "\"auto\"" : toml_number(d->pixels); }
    std::string operator()(const std::vector<double>* v) const {
      std::vector<std::string> items;
      for (const double d : *v) items.push_back(toml_number(d));
      return list(items);
    }
    std::string operator()(const std::vector<std::string>* v) const {
      std::vector<std::string> items;
      for (const std::string& s : *v) items.push_back(toml_quoted(s));
      return list(items);
    }
    std::string operator()(const NumberMap* m) const {
      std::vector<std::string> items;
      for (const auto& [name, number] : *m) items.push_back(fmt::format("{} = {}", toml_quoted(name), toml_number(number)));
      return m->empty() ? "{}" : fmt::format("{{ {} }}", fmt::join(items, ", "));
    }
  };
  return std::visit(Text{}, slot);
}

namespace {

std::string origin_of(const Config& config, std::string_view key) {
  const auto it = config.origins.find(key);
  return it == config.origins.end() ? "default" : it->second;
}

}  // namespace

std::string_view system_of(const Config& config) {
  return config.model.name.starts_with("unet") ? std::string_view("unet") : std::string_view(config.model.name);
}

std::string key_and_value(const Config& config, std::string_view name) {
  const ConfigKey* key = find_config_key(name);
  return fmt::format("{}: {} = {}", origin_of(config, name), name, value_text(key->slot(const_cast<Config&>(config))));
}

namespace {

void read_sections(Config& config, const TomlTable& content_of, const std::string& source) {
  std::vector<std::string> sections;
  for (const ConfigKey& key : config_keys()) {
    const std::string section = section_of(key.name);
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) sections.push_back(section);
  }
  for (const auto& [section, content] : content_of) {
    const std::string place = fmt::format("{}:{}", source, content.line);
    const auto* table = std::get_if<TomlTable>(&content.value);
    if (std::find(sections.begin(), sections.end(), section) == sections.end())
      throw UsageError("{}: unknown {} \"{}\"{}", place, table ? "section" : "key outside of a section", section,
                       table ? suggestion(section, sections) : key_suggestion(section));
    if (!table) throw UsageError("{}: {} is a section: write [{}] and its keys below", place, section, section);
    for (const auto& [name, value] : *table) {
      if (section == "eval" && name == "max_detections")
        continue;  // older versions wrote it into every run; nothing ever read it
      const std::string at = fmt::format("{}:{}", source, value.line);
      assign(config, section + "." + name, value, at + ": ", at);
    }
  }
}

// Text of a recipe, a file or one that is compiled in, and what messages call it.
std::pair<std::string, std::string> find_recipe(const std::string& recipe) {
  const std::filesystem::path file(recipe);
  std::error_code ignored;
  const bool looks_like_a_file = file.extension() == ".toml" || std::filesystem::is_regular_file(file, ignored);
  if (looks_like_a_file) {
    if (!std::filesystem::is_regular_file(file, ignored)) throw UsageError("recipe {}: there is no such file", recipe);
    std::ifstream in(file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    if (!in) throw IoError("recipe {}: cannot be read", recipe);
    return {std::move(text), recipe};
  }
  std::vector<std::string> names;
  for (const Recipe& r : compiled_recipes()) {
    if (r.name == recipe) return {std::string(r.text), fmt::format("recipes/{}.toml", r.name)};
    names.emplace_back(r.name);
  }
  throw UsageError("recipe {}: no file and no recipe of this name{}; there are {}", recipe, suggestion(recipe, names),
                   fmt::join(names, ", "));
}

// The recipe's settings, on top of those of the recipe that its `base` names.
void read_recipe(Config& config, const std::string& recipe, int bases_left = 4) {
  const auto [text, source] = find_recipe(recipe);
  TomlTable content = parse_toml(text, source);
  const auto base = std::find_if(content.begin(), content.end(), [](const auto& entry) { return entry.key == "base"; });
  if (base != content.end()) {
    const auto* name = std::get_if<std::string>(&base->value.value);
    const std::string place = fmt::format("{}:{}: base = {}", source, base->value.line, shown(base->value));
    if (!name) throw UsageError("{}: want the name of a recipe, a text", place);
    if (bases_left == 0) throw UsageError("{}: recipes that build on one another without end, or more than four", place);
    read_recipe(config, *name, bases_left - 1);
    content.erase(base);
  }
  read_sections(config, content, source);
}

}  // namespace

void read_toml(Config& config, std::string_view text, const std::string& source) {
  read_sections(config, parse_toml(text, source), source);
}

void set_value(Config& config, std::string_view key, std::string_view value, const std::string& origin) {
  TomlValue parsed = parse_toml_value(value);
  const ConfigKey* row = find_config_key(key);
  // A text may look like a number or a date: data.val=2024-01-01.
  if (row && std::holds_alternative<std::string*>(row->slot(config)) && !std::holds_alternative<std::string>(parsed.value))
    parsed.value = std::string(value);
  assign(config, std::string(key), parsed, origin + ": ", origin);
}

void apply_setting(Config& config, std::string_view setting) {
  const size_t equals = setting.find('=');
  if (equals == std::string_view::npos || equals == 0)
    throw UsageError("--set {}: want KEY=VALUE, such as --set solver.lr=0.001", setting);
  set_value(config, setting.substr(0, equals), setting.substr(equals + 1), "command line");
}

Config load_config(const std::string& recipe, std::span<const std::string> settings) {
  Config config;
  read_recipe(config, recipe);
  for (const std::string& setting : settings) apply_setting(config, setting);
  check_config(config);
  return config;
}

void set_classes(Config& config, const std::vector<std::string>& names) {
  config.data.classes = names;
  if (config.model.num_classes == 0) config.model.num_classes = static_cast<int64_t>(names.size());
}

std::string to_toml(const Config& config, bool explain) {
  std::string text, section;
  for (const ConfigKey& key : config_keys()) {
    if (!applies(key, config)) continue;
    if (const std::string s = section_of(key.name); s != section) {
      text += fmt::format("{}[{}]\n", section.empty() ? "" : "\n", s);
      section = s;
    }
    const std::string line =
        fmt::format("{} = {}", key.name.substr(section.size() + 1), value_text(key.slot(const_cast<Config&>(config))));
    if (explain) {
      text += fmt::format("{:<34} # ({}) {}\n", line, origin_of(config, key.name), key.help);
    } else {
      text += line + "\n";
    }
  }
  return text;
}

std::vector<std::string> resume_differences(const Config& saved, const Config& now) {
  std::vector<std::string> lines;
  for (const ConfigKey& key : config_keys()) {
    if (key.may_change || !applies(key, now)) continue;
    const bool left_to_the_data = (key.name == "data.classes" && now.data.classes.empty()) ||
                                  (key.name == "model.num_classes" && now.model.num_classes == 0);
    if (left_to_the_data) continue;
    const std::string before = value_text(key.slot(const_cast<Config&>(saved)));
    const std::string after = value_text(key.slot(const_cast<Config&>(now)));
    if (before != after)
      lines.push_back(fmt::format("{}: {} in the run, {} now ({})", key.name, before, after, origin_of(now, key.name)));
  }
  return lines;
}

}  // namespace glia
