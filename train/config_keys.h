#pragma once
// The table of configuration keys, and values as the table moves them.
#include <functional>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "train/config.h"

namespace glia {

// A pointer to the member of a Config that a key stands for. Its type is the key's type.
using ConfigSlot = std::variant<bool*, int64_t*, double*, std::string*, ImageSize*, Every*, CellDiameter*, std::vector<double>*,
                                std::vector<std::string>*, NumberMap*>;

struct ConfigKey {
  std::string name;  // "solver.lr"
  std::function<ConfigSlot(Config&)> slot;
  std::string help;
  double low = -std::numeric_limits<double>::infinity();  // allowed range of a number, of each number of a list, and so on
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices{};  // allowed texts; empty: any
  bool may_change = false;             // on resume
  std::string system{};                // the family of models whose key it is (system_of); empty: of all
};

std::string value_text(const ConfigSlot& slot);  // as TOML
// "recipe.toml:12: data.image_size = [250, 250]", to begin a message.
std::string key_and_value(const Config& config, std::string_view name);
bool applies(const ConfigKey& key, const Config& config);  // whether the configuration's model has it

const std::vector<ConfigKey>& config_keys();
void add_mask_rcnn_keys(std::vector<ConfigKey>& keys);    // the sections of config_mask_rcnn.h
void add_cellpose_keys(std::vector<ConfigKey>& keys);     // the section of config_cellpose.h
const ConfigKey* find_config_key(std::string_view name);  // null when there is none

// ---- rows of the table -------------------------------------------------------------------------------------------------

struct AllowedValues {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices{};
};
inline AllowedValues between(double low, double high) { return {low, high, {}}; }
inline AllowedValues one_of(std::vector<std::string> choices) {
  AllowedValues allowed;
  allowed.choices = std::move(choices);
  return allowed;
}

// The member `Config::section.member`.
template <class Section, class T>
ConfigKey row(const char* name, Section Config::*section, T Section::*member, AllowedValues allowed, const char* help) {
  ConfigKey key{name, [=](Config& c) -> ConfigSlot { return &(c.*section.*member); }, help};
  key.low = allowed.low;
  key.high = allowed.high;
  key.choices = std::move(allowed.choices);
  return key;
}

// One that may change when a run is resumed.
inline ConfigKey free(ConfigKey key) {
  key.may_change = true;
  return key;
}

// One of a single family of models.
inline ConfigKey of_unet(ConfigKey key) {
  key.system = "unet";
  return key;
}
inline ConfigKey of_mask_rcnn(ConfigKey key) {
  key.system = "mask_rcnn";
  return key;
}

}  // namespace glia
