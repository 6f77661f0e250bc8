// The configuration: every key by its table, errors with place and wish, printing and comparing.
#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "tensor/error.h"
#include "train/config.h"
#include "train/config_keys.h"

using namespace glia;

namespace {

// The message of the UsageError that reading `text` as recipe.toml throws; "" when it is accepted.
std::string error_of(const std::string& text, const std::vector<std::string>& settings = {}) {
  try {
    Config config;
    read_toml(config, text, "recipe.toml");
    for (const std::string& s : settings) apply_setting(config, s);
    check_config(config);
  } catch (const Error& e) {
    CHECK(e.code() == ExitCode::usage);
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE_BEGIN("train");

TEST_CASE("config: unknown names are answered with the nearest known one") {
  CHECK(error_of("[solver]\nlr = 0.1\nbatchsize = 3\n") ==
        "recipe.toml:3: unknown key \"solver.batchsize\" (did you mean solver.batch_size?)");
  CHECK(error_of("[solvr]\nlr = 0.1\n") == "recipe.toml:1: unknown section \"solvr\" (did you mean solver?)");
  CHECK(contains(error_of("patience = 3\n"), "key outside of a section \"patience\" (did you mean early_stopping.patience?)"));
  CHECK(contains(error_of("", {"model.patience=3"}),
                 "command line: unknown key \"model.patience\" (did you mean early_stopping.patience?)"));
  CHECK(contains(error_of("solver = 3\n"), "write [solver]"));
  CHECK(contains(error_of("[model]\nname = \"unet_kears\"\n"), "(did you mean unet_keras?)"));
  CHECK(contains(error_of("[model]\nzzzzzzzzzzzz = 1\n"), "unknown key \"model.zzzzzzzzzzzz\""));
  CHECK_FALSE(contains(error_of("[model]\nzzzzzzzzzzzz = 1\n"), "did you mean"));
}

TEST_CASE("config: text that is no TOML names its line") {
  CHECK(contains(error_of("[solver]\nlr = = 3\n"), "recipe.toml:2: not valid TOML"));
  CHECK(contains(error_of("[a\n"), "recipe.toml:1: not valid TOML"));
  CHECK(contains(error_of("[solver]\nlr = 1\nlr = 2\n"), "recipe.toml:3: not valid TOML"));
  CHECK(contains(error_of(std::string("[solver]\nlr = \"\0\"\n", 17)), "not valid TOML"));
  CHECK(contains(error_of(std::string(2 << 20, '\n')), "bytes of TOML"));
  const std::string letter = "\xd0\xbe";  // U+043E
  for (const std::string& text :
       {"[solver]\nlr = " + letter + "\n", "[solver]\n" + letter + "r = 1\n", "#" + letter + "\n" + letter})
    CHECK(contains(error_of(text), "recipe.toml:2: not valid TOML: a character beyond ASCII outside of quotes and comments"));
  const std::string inside =
      "\xef\xbb\xbf# " + letter + " \"\n[data]\nfolder = \"" + letter + "\\\"#" + letter + "\" # " + letter + "'\n";
  CHECK(error_of(inside + "unknown = '''" + letter + "\n'" + letter + "'''''\n").find("unknown key") != std::string::npos);
  std::string deep = "x = ";
  for (int i = 0; i < 100; ++i) deep += "[";
  for (int i = 0; i < 100; ++i) deep += "]";
  CHECK(contains(error_of(deep), "nested deeper"));
}

TEST_CASE("config: a value of the wrong type or out of range is refused by every key") {
  // For each key: a date (no key's type) is refused with the key's name; values just outside of the range too.
  for (const ConfigKey& key : config_keys()) {
    CAPTURE(key.name);
    const size_t dot = key.name.find('.');
    const std::string head = fmt::format("[{}]\n{} = ", key.name.substr(0, dot), key.name.substr(dot + 1));
    CHECK(contains(error_of(head + "2020-01-01\n"), "recipe.toml:2: " + key.name + " = a date or time: want "));
    Config config;
    const ConfigSlot slot = key.slot(config);
    const auto bound = [&](double x) { return fmt::format("{}", static_cast<int64_t>(x)); };
    if (std::holds_alternative<int64_t*>(slot)) {
      CHECK(contains(error_of(head + bound(key.low - 1)), "want an integer from"));
      CHECK(contains(error_of(head + bound(key.high + 1)), "want an integer from"));
      CHECK(contains(error_of(head + "1.5\n"), "want an integer"));
    } else if (std::holds_alternative<double*>(slot)) {
      CHECK(contains(error_of(head + bound(key.low - 1)), "want a number from"));
      CHECK(contains(error_of(head + "nan\n"), "want a number from"));
      CHECK(contains(error_of(head + "\"1\"\n"), "want a number"));
    } else if (!key.choices.empty()) {
      CHECK(contains(error_of(head + "\"no such choice\"\n"), "want one of " + key.choices[0]));
    } else if (std::holds_alternative<Every*>(slot)) {
      CHECK(contains(error_of(head + "0\n"), "want \"epoch\" or a number of steps"));
      CHECK(contains(error_of(head + "\"day\"\n"), "want \"epoch\""));
    } else if (std::holds_alternative<CellDiameter*>(slot)) {
      CHECK(contains(error_of(head + "-1\n"), "want \"auto\" or a number from 0"));
      CHECK(contains(error_of(head + "\"large\"\n"), "want \"auto\""));
    } else if (std::holds_alternative<ImageSize*>(slot)) {
      CHECK(contains(error_of(head + "[1, 2, 3]\n"), "want N or [H, W]"));
      CHECK(contains(error_of(head + "-16\n"), "want N or [H, W]"));
    } else if (std::holds_alternative<bool*>(slot)) {
      CHECK(contains(error_of(head + "1\n"), "want true or false"));
    } else if (std::holds_alternative<NumberMap*>(slot)) {
      CHECK(contains(error_of(head + "{ a = \"x\" }\n"), "want {name = number"));
      CHECK(contains(error_of(head + "{ a = -1 }\n"), "want {name = number"));
    } else {
      CHECK(contains(error_of(head + "[true]\n"), "want a"));
    }
  }
}

TEST_CASE("config: impossible combinations") {
  CHECK(error_of("[data]\nimage_size = [256, 250]\n") ==
        "recipe.toml:2: data.image_size = [256, 250]: sides must be divisible by 16 (2^depth, model.depth = 4)");
  CHECK(error_of("", {"data.image_size=250", "model.depth=1"}) == "");
  CHECK(contains(error_of("", {"data.image_size=[0,256]"}), "one side is 0"));
  CHECK(contains(error_of("", {"data.image_size=255", "model.name=unet_original"}), "even"));
  CHECK(contains(error_of("", {"solver.batch_size=0"}), "solver.batch_size = 0: want an integer from 1 to 65536"));
  CHECK(contains(error_of("", {"data.val_fraction=1"}), "data.val_fraction = 1.0: nothing would be left to train on"));
  CHECK(contains(error_of("", {"data.val_fraction=1.5"}), "want a number from 0 to 1"));
  CHECK(contains(error_of("", {"model.tile=100"}), "model.tile = [100, 100]: sides must be divisible"));
  CHECK(contains(error_of("", {"model.tile=64", "model.overlap=64"}), "smaller than a tile"));
  CHECK(contains(error_of("", {"model.connectivity=5"}), "want 4 or 8"));
  CHECK(contains(error_of("", {"model.prune=1"}), "only unet_plus_plus can be pruned"));
  CHECK(contains(error_of("", {"model.name=unet_plus_plus", "model.depth=3", "model.prune=4"}), "at most the number of columns"));
  CHECK(
      contains(error_of("", {"model.name=unet_plus_plus", "model.deep_supervision=false", "model.prune=2"}), "deep_supervision"));
  CHECK(error_of("", {"model.name=unet_plus_plus", "model.deep_supervision=false", "model.prune=4"}) == "");
  CHECK(contains(error_of("", {"data.fit=crop", "data.image_size=0"}), "a crop needs data.image_size"));
  CHECK(contains(error_of("", {"solver.lr=0"}), "command line: solver.lr = 0.0: nothing would be learned"));
  CHECK(contains(error_of("", {"solver.momentum=1"}), "want below 1"));
  CHECK(contains(error_of("", {"solver.beta1=1"}), "want below 1"));
  CHECK(contains(error_of("", {"solver.beta2=1"}), "want below 1"));
  CHECK(contains(error_of("", {"solver.ema=1"}), "want below 1"));
  CHECK(contains(error_of("", {"solver.max_epochs=0"}), "never ends"));
  CHECK(contains(error_of("", {"solver.milestones=[3,2]"}), "ascending"));
  CHECK(contains(error_of("", {"solver.schedule=multistep"}), "needs at least one"));
  CHECK(contains(error_of("", {"solver.schedule=step"}), "needs it"));
  CHECK(contains(error_of("", {"solver.schedule=cosine_restarts"}), "needs it"));
  CHECK(error_of("", {"loss.terms={}"}) == "");  // the system's own
  CHECK(contains(error_of("", {"loss.terms={bce=0}"}), "at least one term"));
  CHECK(contains(error_of("", {"eval.max_detections=[1,10,100]"}), "unknown key"));  // files of older versions may have it
  CHECK(contains(error_of("", {"solver.lr"}), "want KEY=VALUE"));
  CHECK(contains(error_of("", {"=3"}), "want KEY=VALUE"));
}

TEST_CASE("config: impossible combinations of Mask R-CNN") {
  const auto error = [](std::vector<std::string> settings) {
    settings.insert(settings.begin(), "model.name=mask_rcnn");
    return error_of("", settings);
  };
  CHECK(error({}) == "");
  CHECK(contains(error({"input.crop=[0,256]"}), "one side is 0"));
  CHECK(contains(error({"input.redraw_empty_crops=true"}), "needs input.crop"));
  CHECK(contains(error({"input.min_size_train=[640.5]"}), "whole numbers of pixels"));
  CHECK(contains(error({"input.min_size_train_sampling=range"}), "a range needs two sizes"));
  CHECK(contains(error({"input.min_size_train=[800,640]", "input.min_size_train_sampling=range"}), "the smaller first"));
  CHECK(error({"input.min_size_train=[640,800]", "input.min_size_train_sampling=range"}) == "");
  CHECK(contains(error({"input.max_size_train=700"}), "is below input.min_size_train's 704"));
  CHECK(contains(error({"input.max_size_test=799"}), "is below input.min_size_test = 800"));
  CHECK(contains(error({"input.tile=[512, 0]"}), "one side is 0"));
  CHECK(contains(error({"input.tile=[512, 256]"}), "must be smaller than a tile's side, 256"));
  CHECK(contains(error({"input.pixel_mean=[1]"}), "1 numbers, want 3"));
  CHECK(contains(error({"input.pixel_std=[1,1,0]"}), "want a list of numbers from 1e-06"));
  CHECK(contains(error({"backbone.depth=60"}), "want 50 or 101"));
  CHECK(contains(error({"backbone.norm=gn", "backbone.stem_channels=16"}), "multiples of 32"));
  CHECK(contains(error({"rpn.anchor_sizes=[8,16]"}), "2 numbers, want 5"));
  CHECK(contains(error({"rpn.anchor_aspect_ratios=[]"}), "want at least one"));
  CHECK(contains(error({"rpn.iou_thresholds=[0.7,0.3]"}), "the smaller first"));
  CHECK(contains(error({"rpn.bbox_reg_weights=[1,1]"}), "want 4"));
  CHECK(contains(error({"roi_heads.bbox_reg_weights=[1,1]"}), "want 4"));
  CHECK(contains(error({"roi_heads.detections_per_image=0"}), "nothing would be found"));
  CHECK(contains(error({"roi_heads.detections_per_image=1001"}), "fewer proposals than roi_heads.detections_per_image = 1001"));
  CHECK(contains(error({"model.num_classes=3", "data.classes=[\"a\",\"b\"]"}), "2 names, but model.num_classes = 3"));
  CHECK(contains(error({"model.num_classes=3", "eval.class_thresholds=[0.1,0.2]"}), "one for each of 3 classes"));
  CHECK(contains(error({"model.num_classes=3", "eval.min_sizes=[1,2]"}), "one for each of 3 classes"));
  CHECK(error({"model.num_classes=3", "eval.min_sizes=[1]", "eval.class_thresholds=[0.1,0.2,0.3]"}) == "");
  CHECK(contains(error({"eval.min_sizes=[1.5]"}), "whole numbers"));
  CHECK(contains(error({"loss.terms={bce=1}"}), "\"bce\" is no loss of mask_rcnn"));
  CHECK(error({"loss.terms={loss_mask=2}"}) == "");
  const char *cascade = "roi_heads.cascade_ious=[0.5,0.6,0.7]", *agnostic = "roi_heads.cls_agnostic_bbox_reg=true";
  CHECK(error({cascade, agnostic, "loss.terms={loss_cls_stage2=0.5}"}) == "");
  CHECK(contains(error({cascade}), "needs roi_heads.cls_agnostic_bbox_reg"));
  CHECK(contains(error({cascade, agnostic, "roi_heads.iou_threshold=0.4"}), "the first must be"));
  CHECK(contains(error({cascade, agnostic, "loss.terms={loss_cls=0.5}"}), "is no loss"));
  CHECK(contains(error({"roi_heads.cascade_ious=[0.5,0.6,0.7,0.8]", agnostic}), "three at most"));
  CHECK(contains(error({"loss.terms={loss_maskiou=0.5}"}), "is no loss"));
  CHECK(error({"loss.terms={loss_maskiou=0.5}", "roi_heads.mask_scoring=true"}) == "");
  CHECK(contains(error({"solver.weight_decay_bias=-0.5"}), "-1 for solver.weight_decay"));
}

TEST_CASE("config: a setting of another system is refused, and only the own ones are printed") {
  CHECK(error_of("[rpn]\nnms_thresh = 0.5\n") ==
        "recipe.toml:2: rpn.nms_thresh = 0.5: the models of system mask_rcnn have this setting, model.name = \"unet_keras\" has "
        "not");
  CHECK(contains(error_of("", {"model.name=mask_rcnn", "model.depth=3"}),
                 "command line: model.depth = 3: the models of system unet"));
  // Checkpoints of older versions give every key, with its default.
  CHECK(error_of("[model]\nnum_classes = 1\n[eval]\nscore_threshold = 0.5\nclass_thresholds = []\n") == "");
  CHECK(contains(error_of("[model]\nnum_classes = 2\n"), "the models of system mask_rcnn"));
  Config config;
  CHECK(!contains(to_toml(config, true), "[rpn]"));
  apply_setting(config, "model.name=mask_rcnn");
  const std::string printed = to_toml(config, true);
  CHECK(contains(printed, "[rpn]"));
  CHECK(!contains(printed, "base_channels"));
  CHECK(contains(printed, "optimizer"));
}

TEST_CASE("config: values, origins and the print that reads back") {
  Config config;
  read_toml(config, "[solver]\nlr = 1\nmilestones = [10, 20.0]\n[data]\nimage_size = 128\n[loss.terms]\nbce = 1\ndice = 0.5\n",
            "recipe.toml");
  apply_setting(config, "eval.every=20");
  apply_setting(config, "data.val=2024-01-01");
  apply_setting(config, "init.lr_scale={\"a.*\" = 0.1}");
  apply_setting(config, "run.device=cpu");
  apply_setting(config, "init.ignore=[\"head.*\", \"quote\\\"d\"]");
  CHECK(config.solver.lr == 1.0);
  CHECK(config.solver.milestones == std::vector<double>{10, 20});
  CHECK(config.data.image_size == ImageSize{128, 128});
  CHECK(config.loss.terms == NumberMap{{"bce", 1.0}, {"dice", 0.5}});
  CHECK(config.eval.every.steps == 20);
  CHECK(config.data.val == "2024-01-01");
  CHECK(config.run.device == "cpu");
  CHECK(config.origins.at("solver.lr") == "recipe.toml:2");
  CHECK(config.origins.at("eval.every") == "command line");

  // What is printed is a recipe that gives the same configuration, with and without explanations.
  for (const bool explain : {false, true}) {
    Config again;
    read_toml(again, to_toml(config, explain), "saved");
    CHECK(to_toml(again) == to_toml(config));
    CHECK(again.init.ignore == config.init.ignore);
    CHECK(again.init.lr_scale == NumberMap{{"a.*", 0.1}});
  }
  const std::string printed = to_toml(config, true);
  CHECK(contains(printed, "lr = 1.0"));
  CHECK(contains(printed, "# (recipe.toml:2) learning rate"));
  CHECK(contains(printed, "# (command line) steps between evaluations"));
  CHECK(contains(printed, "# (default) images per step"));
}

TEST_CASE("config: every key has a help, a name of its own and a default in its range") {
  std::set<std::string> names;
  Config config;
  check_config(config);
  for (const ConfigKey& key : config_keys()) {
    CHECK(names.insert(key.name).second);
    CHECK(!key.help.empty());
    CHECK(key.help.find('\n') == std::string::npos);
    CHECK(find_config_key(key.name) == &key);
  }
  size_t own = 0, shared = 0;
  for (const char* model : {"unet_keras", "mask_rcnn", "cellpose"}) {
    Config of_model, again;
    apply_setting(of_model, std::string("model.name=") + model);
    read_toml(again, to_toml(of_model), "defaults");  // range-checks every default
    check_config(again);
    for (const ConfigKey& key : config_keys()) CHECK(again.origins.contains(key.name) == applies(key, of_model));
    own += again.origins.size();
  }
  for (const ConfigKey& key : config_keys()) shared += key.system.empty();
  CHECK(own == config_keys().size() + 2 * shared);
}

TEST_CASE("config: what may change on resume") {
  Config saved, now;
  for (const char* s :
       {"solver.max_iterations=10", "solver.max_epochs=3", "run.threads=3", "data.workers=0", "run.device=cpu", "eval.every=7",
        "eval.metric=dice", "checkpoint.keep=9", "early_stopping.patience=3", "run.tensorboard=false"})
    apply_setting(now, s);
  CHECK(resume_differences(saved, now).empty());
  apply_setting(now, "solver.lr=0.5");
  apply_setting(now, "run.seed=3");
  const auto lines = resume_differences(saved, now);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0] == "solver.lr: 0.001 in the run, 0.5 now (command line)");
  CHECK(lines[1] == "run.seed: 0 in the run, 3 now (command line)");

  // Classes and their number may be left to the data, as they were at first.
  Config trained, again;
  for (const char* s : {"model.name=mask_rcnn", "model.num_classes=2", "data.classes=[\"a\",\"b\"]"}) apply_setting(trained, s);
  for (const char* s :
       {"model.name=mask_rcnn", "model.num_classes=0", "eval.class_thresholds=[0.1,0.2]", "roi_heads.score_thresh_test=0.3"})
    apply_setting(again, s);
  CHECK(resume_differences(trained, again).empty());
  apply_setting(again, "data.classes=[\"b\",\"a\"]");
  CHECK(resume_differences(trained, again).size() == 1);
}

TEST_CASE("config: recipes by name and by file") {
  std::set<std::string> names;
  for (const Recipe& recipe : compiled_recipes()) {
    CAPTURE(recipe.name);
    names.emplace(recipe.name);
    CHECK_NOTHROW(load_config(std::string(recipe.name)));
  }
  CHECK(names.contains("unet"));
  CHECK(names.contains("unet_border"));
  CHECK(names.contains("study/unet"));
  const Config unet = load_config("unet", std::vector<std::string>{"solver.max_iterations=7"});
  CHECK(unet.model.base_channels == 16);
  CHECK(unet.solver.max_iterations == 7);
  CHECK(unet.origins.at("solver.lr").starts_with("recipes/unet.toml:"));
  CHECK_THROWS_WITH_AS(load_config("unett"), doctest::Contains("(did you mean unet?); there are"), UsageError);
  CHECK_THROWS_WITH_AS(load_config("absent.toml"), "recipe absent.toml: there is no such file", UsageError);

  const auto file = std::filesystem::temp_directory_path() / fmt::format("glia_recipe_{}.toml", getpid());
  std::ofstream(file) << "[solver]\nlr = 0.25\n";
  const Config mine = load_config(file.string());
  CHECK(mine.solver.lr == 0.25);
  CHECK(mine.origins.at("solver.lr") == file.string() + ":2");

  Config based_on_nothing;
  std::ofstream(file) << "base = \"unet_border\"\n[solver]\nlr = 0.25\n";
  const Config border = load_config("unet_border"), based = load_config(file.string());
  CHECK(resume_differences(border, based) ==
        std::vector<std::string>{fmt::format("solver.lr: {} in the run, 0.25 now ({}:3)", border.solver.lr, file.string())});
  CHECK(based.origins.at("model.target").starts_with("recipes/unet_border.toml:"));
  std::ofstream(file) << "base = 3\n";
  CHECK_THROWS_WITH_AS(load_config(file.string()), doctest::Contains(":1: base = 3: want the name of a recipe"), UsageError);
  std::ofstream(file) << fmt::format("base = \"{}\"\n", file.string());
  CHECK_THROWS_WITH_AS(load_config(file.string()), doctest::Contains("without end"), UsageError);
  CHECK_THROWS_AS(read_toml(based_on_nothing, "base = \"unet\"\n", "config.toml"), UsageError);  // recipes alone have one
  std::filesystem::remove(file);
}

TEST_SUITE_END();
