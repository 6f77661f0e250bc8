#pragma once
// Annotations in Kaggle's CSV files as data sets. Both kinds name an image in the column `id` and hold run lengths "start length ...",
// counted from 1, row by row (data/rle.h):
//   train.csv   id,annotation,width,height,cell_type,...   one row per instance
//   submission  id,predicted                               one row per instance; an image without any has one row without runs
#include <filesystem>

#include "data/faults.h"
#include "data/instance.h"

namespace glia {

// Samples and categories (cell_type; "cell" without that column) by first appearance; files empty. Through `faults` go
//   stop: no such column, broken CSV, impossible or changing sizes, run lengths that do not fit, more than 100,000 rows of an image,
//         run lengths in the other pixel order (down the columns, as the 2018 data)
//   drop: rows without run lengths;   warn: the same row twice
Dataset read_sartorius(const std::filesystem::path& csv, Faults& faults);

// For the images of `truth`, all of category 0. stop: an unknown image, run lengths that do not fit its size.
Dataset read_submission(const std::filesystem::path& csv, const Dataset& truth, Faults& faults);

// Whether the header is a submission's (has the column `predicted`).
bool is_submission(const std::filesystem::path& csv);

}  // namespace glia
