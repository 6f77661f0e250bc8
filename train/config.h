#pragma once
// The configuration of a training run: what a recipe (a TOML file) and `--set key=value` may say. The structs below hold the
// values and their defaults; the one table in config_keys.cpp names each of them, and reading, checking, printing and comparing
// all walk that table. To add a key: a member here, a row there.
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "train/config_cellpose.h"
#include "train/config_mask_rcnn.h"

namespace glia {

struct Every {        // written as a number of steps, or "epoch"
  int64_t steps = 0;  // 0: once per epoch
  bool operator==(const Every&) const = default;
};

using NumberMap = std::vector<std::pair<std::string, double>>;  // { name = number, ... } in the order written

struct ModelConfig {
  std::string name = "unet_keras";
  int64_t base_channels = 64;
  int64_t depth = 4;
  int64_t num_classes = 1;
  std::string head = "direct";
  std::string upsample = "transposed";
  bool dropout = true;
  bool deep_supervision = true;
  int64_t prune = 0;
  std::string target = "binary";
  int64_t border_width = 1;
  double seed_threshold = 0.8;
  int64_t seed_size = 20;
  int64_t grow = 16;
  double threshold = 0.5;
  int64_t connectivity = 8;
  int64_t min_size = 0;
  bool fill_holes = false;
  ImageSize tile{0, 0};
  int64_t overlap = 64;
};

struct DataConfig {
  ImageSize image_size{256, 256};
  std::string fit = "resize";
  std::string resize = "pil";
  int64_t channels = 1;
  std::string normalize = "unit";
  std::string split = "seeded";
  double val_fraction = 0.2;
  int64_t split_seed = 0;
  std::string val{};
  std::vector<std::string> classes{};
  std::string class_from = "annotation";
  int64_t repeat = 1;
  int64_t workers = 1;
  int64_t prefetch = 2;
  bool cache = true;
  bool drop_last = false;
};

struct AugmentConfig {
  bool hflip = false;
  bool vflip = false;
  bool transpose = false;
  double rotate = 0;
  double scale = 0;
  double brightness = 0;
  double contrast = 0;
  double noise = 0;
};

struct SolverConfig {
  std::string optimizer = "adam";
  double lr = 1e-3;
  double momentum = 0.9;
  bool nesterov = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 0;
  double alpha = 0.99;
  double weight_decay = 0;
  double weight_decay_norm = -1;
  double weight_decay_bias = -1;
  double bias_lr_factor = 1;
  int64_t batch_size = 5;
  int64_t accumulate = 1;
  int64_t max_iterations = 0;
  int64_t max_epochs = 200;
  std::string schedule = "constant";
  int64_t warmup_iterations = 0;
  double warmup_factor = 0.001;
  std::vector<double> milestones{};
  double gamma = 0.1;
  int64_t step_size = 0;
  int64_t period = 0;
  double power = 0.9;
  double final_lr = 0;
  std::string plateau_metric = "loss";
  int64_t plateau_patience = 10;
  double clip_norm = 0;
  bool clip_norm_each = false;
  double clip_value = 0;
  double ema = 0;
};

struct LossConfig {
  NumberMap terms{};
  std::vector<double> class_weights{};
  double positive_weight = 1;
  double focal_gamma = 2;
  double focal_alpha = 0.25;
  double tversky_alpha = 0.3;
  double tversky_beta = 0.7;
  double smooth = 1;
  std::string per = "batch";
  NumberMap weights{};
  double weight_sigma = 5;
  int64_t weight_radius = 5;
  bool weight_balance = false;
  bool weight_normalize = false;
};

struct EvalConfig {
  Every every{};
  std::string metric = "map_iou";
  double score_threshold = 0.5;
  std::vector<double> class_thresholds{};
  std::vector<double> min_sizes{};
  bool class_of_image = false;
  bool remove_overlaps = true;
  bool flip = false;
  bool losses = false;
  int64_t batch_size = 1;
  int64_t max_images = 0;
  int64_t pictures = 4;
};

struct CheckpointConfig {
  std::string save_best = "auto";
  int64_t keep = 3;
  int64_t keep_best = 1;
  Every every{};
  std::string on_error = "stop";
};

struct EarlyStoppingConfig {
  std::string metric = "loss";
  int64_t patience = 0;
  double min_delta = 0;
  int64_t start_from = 0;
};

struct InitConfig {
  std::string weights{};
  std::vector<std::string> ignore{};
  NumberMap lr_scale{};
};

struct RunConfig {
  int64_t seed = 0;
  bool deterministic = false;
  std::string device = "auto";
  std::string kernels = "auto";
  int64_t threads = 0;
  std::string precision = "auto";
  bool check_precision = true;
  bool pack_weights = true;
  double memory_limit = 0;
  bool recompute = false;
  int64_t log_every = 20;
  bool tensorboard = true;
  std::string on_nan = "skip:3";
};

struct Config {
  ModelConfig model;
  InputConfig input;
  BackboneConfig backbone;
  RpnConfig rpn;
  RoiHeadsConfig roi_heads;
  CellposeConfig cellpose;
  DataConfig data;
  AugmentConfig augment;
  SolverConfig solver;
  LossConfig loss;
  EvalConfig eval;
  CheckpointConfig checkpoint;
  EarlyStoppingConfig early_stopping;
  InitConfig init;
  RunConfig run;

  // Where a key's value came from: "FILE:LINE" or "command line". A key that is absent here has its default.
  std::map<std::string, std::string, std::less<>> origins;
};

// The recipe `name` (a file, or a recipe that is compiled in, such as "unet") with the settings "a.b=c" on top, checked. A recipe that begins with
// base = "NAME" has that recipe's settings, but for those that it gives itself. Throws UsageError that names the place, the key, the value and
// what was wanted; IoError for a file that cannot be read.
Config load_config(const std::string& recipe, std::span<const std::string> settings = {});

// One step of the above each. `source` is how errors and origins call the text.
void read_toml(Config& config, std::string_view text, const std::string& source);
void apply_setting(Config& config, std::string_view setting);  // "solver.lr=0.01"
void set_value(Config& config, std::string_view key, std::string_view value, const std::string& origin);
void check_config(const Config& config);  // what concerns several keys at once; single values are checked when they are set

// The names of the classes, and their number where the configuration leaves it to the data.
void set_classes(Config& config, const std::vector<std::string>& names);

// The family of systems that the model belongs to, "unet", "mask_rcnn" or "cellpose": keys may be of one of them alone.
std::string_view system_of(const Config& config);

// A valid recipe that gives every key of the model's system. `explain` adds the origin and the key's help as comments: --print-config.
std::string to_toml(const Config& config, bool explain = false);

// What keeps a run that was made with `saved` from going on with `now`: one line for each key that differs and may not change
// on resume. Limits, threads, workers, device, evaluation, checkpoint and logging settings may.
std::vector<std::string> resume_differences(const Config& saved, const Config& now);

// Recipes compiled in from recipes/.
struct Recipe {
  std::string_view name;  // "unet", "study/unet"
  std::string_view text;
};
std::span<const Recipe> compiled_recipes();

}  // namespace glia
