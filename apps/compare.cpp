// glia compare: which recipe suits these images? Trains and evaluates several on one split, each for the same time.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <memory>
#include <unordered_map>

#include "apps/child_process.h"
#include "apps/cli.h"
#include "apps/compare_plan.h"
#include "apps/compare_report.h"
#include "apps/segmentation.h"
#include "data/atomic_file.h"
#include "nn/init.h"
#include "train/progress.h"
#include "train/signals.h"

namespace glia {
namespace {

namespace fs = std::filesystem;

struct Options {
  CommonOptions common;
  DataOptions data_options;
  std::string data, val, recipes, budget = "30m", out;
  std::vector<std::string> settings;
  int64_t seed = 0, worst = 4;
  bool overwrite = false;
};

struct Entry {
  std::string recipe;  // as asked for
  std::string name;    // of its row and folder
  Config config;
};

// Every recipe is looked at before the first is trained.
std::vector<Entry> read_recipes(const Options& options) {
  std::vector<Entry> entries;
  for (size_t at = 0; at <= options.recipes.size();) {
    const size_t comma = std::min(options.recipes.find(',', at), options.recipes.size());
    const std::string recipe = options.recipes.substr(at, comma - at);
    at = comma + 1;
    if (recipe.empty()) throw UsageError("--recipes '{}': want names or files of recipes, with commas", options.recipes);
    Entry entry{recipe, recipe.ends_with(".toml") ? fs::path(recipe).stem().string() : recipe,
                load_config(recipe, options.settings)};
    std::replace(entry.name.begin(), entry.name.end(), '/', '-');
    make_segmenter(entry.config);  // throws for settings that do not go together
    for (const Entry& other : entries)
      if (other.name == entry.name) throw UsageError("--recipes '{}': {} is there twice", options.recipes, entry.name);
    entries.push_back(std::move(entry));
  }
  return entries;
}

class Comparison {
 public:
  Comparison(const Options& options, std::vector<Entry> entries, Dataset data)
      : options_(options),
        entries_(std::move(entries)),
        budget_(parse_duration(options.budget)),
        out_(options.out),
        progress_(options.common.quiet) {
    for (Sample& s : data.samples) samples_[s.id] = std::move(s);
  }

  int run() {
    const StopSignals signals;
    progress_.start(0, seconds(entries_.size()), 30, "second");
    int code = 0;
    for (size_t i = 0; i < entries_.size() && !stop_requested(); ++i) {
      current_ = i;
      recipe_began_ = std::chrono::steady_clock::now();
      const fs::path folder = out_ / entries_[i].name;
      std::optional<ComparedRecipe> row = read_compared(folder / "figures.json", settings_of(entries_[i]));
      if (row) {
        progress_.line(fmt::format("{}: done before", row->name));
        progress_.start(seconds(i + 1), seconds(entries_.size()), 30, "second");
      }
      if (!row) row = compare_one(entries_[i], folder);
      if (!row) break;  // interrupted
      if (!row->failure.empty()) {
        progress_.warn(fmt::format("{}: {}", row->name, row->failure));
        if (code == 0) code = out_of_time() ? static_cast<int>(ExitCode::usage) : last_code_;
      } else {
        add_found(entries_[i], folder);
      }
      rows_.push_back(std::move(*row));
      write_report();
    }
    if (stop_requested()) {
      progress_.line(
          fmt::format("interrupted: {} of {} recipes are done and in {}/compare.md; the same command goes on from there",
                      rows_.size(), entries_.size(), out_.string()));
      return static_cast<int>(ExitCode::interrupted);
    }
    progress_.line(
        fmt::format("\n{}\n{}/compare.md, compare.csv and worst.png", compare_markdown(rows_, title()), out_.string()));
    return code;
  }

 private:
  int64_t seconds(size_t recipes) const { return static_cast<int64_t>(std::ceil(double(recipes) * budget_)); }

  static uint64_t settings_of(const Entry& entry) { return fnv1a(to_toml(entry.config)); }

  std::string title() const {
    const std::string images = truth_.samples.empty() ? "" : fmt::format("{} validation images of ", truth_.samples.size());
    return fmt::format("{}{}, {} of training each", images, options_.data, duration_text(budget_));
  }

  // Settings that all recipes share.
  std::vector<std::string> shared() const {
    std::vector<std::string> words{"--device",  options_.common.device,
                                   "--kernels", options_.common.kernels,
                                   "--threads", std::to_string(options_.common.threads),
                                   "--quiet"};
    if (!options_.common.mem_limit.empty()) words.insert(words.end(), {"--mem-limit", options_.common.mem_limit});
    for (const std::string& limit : options_.common.limits) words.insert(words.end(), {"--file-limit", limit});
    return words;
  }
  // `how`: --overwrite, or --resume auto.
  std::vector<std::string> train_words(const Entry& entry, const fs::path& run, const std::vector<std::string>& how,
                                       const std::vector<std::string>& settings) const {
    const DataOptions& d = options_.data_options;
    std::vector<std::string> words{"train",
                                   entry.recipe,
                                   "--data",
                                   options_.data,
                                   "--out",
                                   run.string(),
                                   "--labels",
                                   d.labels,
                                   "--on-size-mismatch",
                                   d.on_size_mismatch,
                                   "--on-corrupt",
                                   d.on_corrupt,
                                   "--seed",
                                   std::to_string(options_.seed)};
    words.insert(words.end(), how.begin(), how.end());
    if (!d.images.empty()) words.insert(words.end(), {"--images", d.images});
    if (d.allow_outside) words.emplace_back("--allow-outside");
    if (!options_.val.empty()) words.insert(words.end(), {"--val", options_.val});
    const std::vector<std::string> split{"data.split=seeded", "data.val_fraction=0.2", "data.split_seed=0"};
    for (const auto* list : {&split, &options_.settings, &settings})
      for (const std::string& s : *list) words.insert(words.end(), {"--set", s});
    const std::vector<std::string> common = shared();
    words.insert(words.end(), common.begin(), common.end());
    return words;
  }

  // A child's figures; the progress says what it is doing. It is stopped once it is `over`, if that is given.
  ChildResult child(const std::vector<std::string>& words, const fs::path& log, const std::function<std::string()>& doing,
                    const std::function<bool(double spent)>& over = nullptr) {
    int64_t shown = -1;
    const ChildResult result = run_glia(words, log, [&](double spent) {
      const auto now = static_cast<int64_t>(spent);
      if (now != shown) {
        shown = now;
        const double taken = std::chrono::duration<double>(std::chrono::steady_clock::now() - recipe_began_).count();
        const int64_t done = seconds(current_) + std::min(static_cast<int64_t>(taken), seconds(1) - 1);
        progress_.step(done, fmt::format("[{}/{}] {}: {}", current_ + 1, entries_.size(), entries_[current_].name, doing()));
      }
      return stop_requested() || (over && over(spent));
    });
    last_code_ = result.code;
    return result;
  }

  bool out_of_time() const { return last_code_ == static_cast<int>(ExitCode::interrupted); }  // the last child was stopped

  // A row without figures, with the error of the log: the line that begins with the program's name, else the last.
  ComparedRecipe failed(const Entry& entry, const char* what, const fs::path& log) const {
    std::string why;
    std::ifstream file(log);
    for (std::string line; std::getline(file, line) && !why.starts_with("glia ");)
      if (!line.empty()) why = line;
    ComparedRecipe row;
    row.name = entry.name;
    row.failure = out_of_time()
                      ? fmt::format("{} took longer than the budget; it wants a larger --budget, or a smaller recipe", what)
                      : fmt::format("{} failed with exit code {}: {}", what, last_code_, why);
    std::replace(row.failure.begin(), row.failure.end(), '|', '/');
    return row;
  }

  // Nothing where a signal asked to stop.
  std::optional<ComparedRecipe> compare_one(const Entry& entry, const fs::path& folder) {
    make_folder(folder);
    const fs::path run = folder / "run", log = folder / "train.log";
    // How long a step takes here, by some steps; the first ones warm up.
    const ChildResult probe = child(
        train_words(entry, folder / "probe", {"--overwrite"}, plan_of_probe()), log,
        [] { return std::string("timing a few steps"); }, [&](double spent) { return spent > budget_; });
    if (stop_requested()) return std::nullopt;
    if (probe.code == 0) read_truth(folder / "probe");
    const auto validation = static_cast<int64_t>(truth_.samples.size());
    const ImageCounts images{.training = static_cast<int64_t>(samples_.size()) - validation, .validation = validation};
    const auto pace = pace_of_probe(folder / "probe", entry.config.solver, validation);
    if (probe.code != 0 || !pace) return failed(entry, "timing a few steps", log);
    std::error_code ignored;
    fs::remove_all(folder / "probe", ignored);

    ComparedRecipe row;
    row.name = entry.name;
    row.settings = settings_of(entry);
    std::vector<std::string> plan = plan_of_training(entry.config, images, *pace, budget_, row.planned_steps);
    const auto last_step = [&] {
      const std::vector<LoggedStep> last = last_steps(run, 1);
      return last.empty() ? LoggedStep{} : last[0];
    };
    const ChildResult training = child(
        train_words(entry, run, {"--overwrite"}, plan), log,
        [&] {
          const LoggedStep last = last_step();
          return last.step == 0 ? std::string("starting")
                                : fmt::format("step {} of {}, loss {:.4f}", last.step, row.planned_steps, last.loss);
        },
        // After the last step its evaluation may end.
        [&](double spent) { return spent > budget_ && last_step().step < row.planned_steps; });
    if (stop_requested()) return std::nullopt;
    const bool stopped_by_budget = training.code == static_cast<int>(ExitCode::interrupted);
    if (training.code != 0 && !stopped_by_budget) return failed(entry, "training", log);
    const LoggedStep last = last_step();
    row.steps = last.step;
    row.train_seconds = training.seconds;
    if (!stopped_by_budget) row.planned_steps = row.steps;  // an epoch limit or early stopping came first
    if (stopped_by_budget && row.steps > 0) {  // what it ended with may be its best: it goes on for no step, which evaluates that
      plan.push_back(fmt::format("solver.max_iterations={}", row.steps));
      const ChildResult end = child(train_words(entry, run, {"--resume", "auto"}, plan), folder / "evaluate.log",
                                    [] { return std::string("evaluating the last step"); });
      if (stop_requested()) return std::nullopt;
      if (end.code != 0) return failed(entry, "evaluating the last step", folder / "evaluate.log");
      row.train_seconds += end.seconds;
    }
    row.train_mb = training.peak_mb;
    row.tensors_mb = last.memory / (1 << 20);
    return predict_and_score(entry, folder, row);
  }

  std::optional<ComparedRecipe> predict_and_score(const Entry& entry, const fs::path& folder, ComparedRecipe row) {
    const fs::path run = folder / "run", log = folder / "predict.log", best = run / "checkpoints" / "best.safetensors";
    const fs::path checkpoint = fs::exists(best) ? best : run / "checkpoints" / "last.safetensors";
    if (!fs::exists(checkpoint)) return failed(entry, "the first step of training", folder / "train.log");
    read_truth(run);
    std::vector<std::string> words{"predict", checkpoint.string(), "--out", (folder / "found").string(), "--write", "coco"};
    const std::vector<std::string> common = shared();
    words.insert(words.end(), common.begin(), common.end());
    words.emplace_back("--images");
    for (const Sample& s : truth_.samples) words.push_back(s.file.string());
    const ChildResult prediction = child(words, log, [] { return std::string("predicting"); });
    if (stop_requested()) return std::nullopt;
    if (prediction.code != 0) return failed(entry, "prediction", log);
    pass_on_warnings(entry, log);
    const Evaluation e = evaluation(folder).evaluation;
    row.map_iou = e.map_iou;
    row.ap = e.segm.ap;
    row.ap50 = e.segm.ap50;
    row.f1_at_50 = e.f1_at_50;
    row.dice = e.dice;
    row.predict_seconds = prediction.seconds / double(std::max<size_t>(1, truth_.samples.size()));
    row.predict_mb = prediction.peak_mb;
    row.parameters = double(load_parameter_count(run)) / 1e6;
    write_compared(folder / "figures.json", row);
    return row;
  }

  void pass_on_warnings(const Entry& entry, const fs::path& log) const {
    constexpr std::string_view mark = "warning: ";
    std::ifstream file(log);
    for (std::string line; std::getline(file, line);)
      if (line.starts_with(mark)) progress_.warn(fmt::format("{}: {}", entry.name, line.substr(mark.size())));
  }

  // Of the network as it was trained: its classes may be the data's.
  static int64_t load_parameter_count(const fs::path& run) {
    Config config;
    read_toml(config, read_file(run / "config.toml"), (run / "config.toml").string());
    return make_segmenter(config)->module().parameter_count();
  }

  // The validation images, the same for all recipes, from the first run.
  void read_truth(const fs::path& run) {
    if (!truth_.samples.empty()) return;
    DatasetOptions read;
    read.need_images = false;
    truth_ = open_dataset(run / "annotation_val.json", read);
    for (Sample& s : truth_.samples) {
      const auto found = samples_.find(s.id);
      GLIA_CHECK(found != samples_.end(), "compare: validation image {} is not among the data", s.id);
      s.file = found->second.file;
    }
  }

  FoundCells evaluation(const fs::path& folder) const {
    EvaluateOptions how;
    how.protocol.max_detections = {100, 500, 2000};  // images of cells have more than COCO's 100
    Dataset predictions = open_predictions(folder / "found", truth_);
    Evaluation e = evaluate(truth_, predictions, how);
    return {folder.filename().string(), std::move(predictions), std::move(e)};
  }

  void add_found(const Entry& entry, const fs::path& folder) {
    read_truth(folder / "run");
    found_.push_back(evaluation(folder));
    found_.back().recipe = entry.name;
  }

  void write_report() const {
    write_file(out_ / "compare.md", fmt::format("{}\n{}\n![The worst images side by side](worst.png)\n",
                                                compare_markdown(rows_, title()), compare_legend));
    write_file(out_ / "compare.csv", compare_csv(rows_));
    draw_worst_side_by_side(truth_, found_, options_.worst, out_ / "worst.png");
  }

  Options options_;
  std::vector<Entry> entries_;
  double budget_;
  fs::path out_;
  Progress progress_;
  std::unordered_map<std::string, Sample> samples_;  // of the data, by id
  Dataset truth_;
  std::vector<ComparedRecipe> rows_;
  std::vector<FoundCells> found_;
  size_t current_ = 0;  // recipe
  std::chrono::steady_clock::time_point recipe_began_;
  int last_code_ = 0;
};

// What makes two comparisons the same, but for the recipes.
std::string description(const Options& o) {
  return fmt::format("data: {}\nval: {}\nbudget: {:g} s\nseed: {}\nsettings: {}\n", fs::absolute(o.data).string(), o.val,
                     parse_duration(o.budget), o.seed, fmt::join(o.settings, " "));
}

// Makes the folder, or finds in it a comparison that this one goes on with.
void open_folder(const Options& options, const Dataset& data) {
  const fs::path out = options.out, file = out / "compare.txt";
  make_output_folder(out, data);
  std::error_code ignored;
  if (fs::is_regular_file(file, ignored) && !options.overwrite) {
    if (const std::string before = read_file(file); before != description(options))
      throw UsageError(
          "{}: holds another comparison; --overwrite replaces it, --out DIR names another folder. Its description:\n{}",
          options.out, before);
    return;
  }
  if (!fs::is_empty(out) && !options.overwrite)
    throw UsageError("{}: the folder is not empty and holds no comparison; --out DIR names another", options.out);
  write_file(file, description(options));
}

int run(const Options& options) {
  options.common.apply();
  if (options.worst < 0) throw UsageError("--worst {}: want 0 or more", options.worst);
  parse_duration(options.budget);
  std::vector<Entry> entries = read_recipes(options);
  Dataset data = open_data(options.data, options.data_options.options(), options.common.quiet);
  if (!options.val.empty())
    for (Sample& s : open_data(options.val, options.data_options.options(), options.common.quiet).samples)
      data.samples.push_back(std::move(s));
  if (data.samples.size() < 2)
    throw DataError("{}: one image; a comparison needs images to train on and others to score", options.data);
  open_folder(options, data);
  if (options.overwrite)
    for (const Entry& entry : entries) fs::remove_all(fs::path(options.out) / entry.name);
  return Comparison(options, std::move(entries), std::move(data)).run();
}

}  // namespace

Command compare_command() {
  const auto options = std::make_shared<Options>();
  return {.name = "compare",
          .summary = "train and evaluate several recipes on one split, each for the same time: which suits these images?",
          .example = "glia compare --data cells --recipes unet_border,mask_rcnn_cells --budget 30m --out compared",
          .declare =
              [options](Arguments& a) {
                a.option("--data", &options->data, "folder with train.csv, a COCO file, or images/ and labels/", true);
                a.option("--recipes", &options->recipes, "names or TOML files, with commas", true);
                a.option("--budget", &options->budget,
                         "time of training of each recipe, evaluations included, such as 90s, 30m, 1.5h; a recipe that takes "
                         "longer is shortened");
                a.option("--out", &options->out, "the folder for the table, the picture and each recipe's run", true);
                a.option("--val", &options->val, "a validation data set, instead of a fifth of the images");
                a.repeated("--set", &options->settings, "KEY=VALUE for all recipes, such as data.split_seed=1");
                a.option("--seed", &options->seed, "run.seed of all");
                a.option("--worst", &options->worst, "images in worst.png: those with the lowest map_iou over the recipes");
                a.flag("--overwrite", &options->overwrite, "replace a comparison that is in the folder; without: go on with it");
                options->data_options.declare(a);
                options->common.declare(a);
              },
          .run = [options] { return run(*options); }};
}

}  // namespace glia
