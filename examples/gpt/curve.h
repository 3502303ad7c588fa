// examples/gpt/curve.h: the losses of a training over all its runs, as lines of a file and as a picture.
// Files       FILE.csv has a line a step, written as the step is made: a run that is killed loses none. A line that was cut short is
// skipped.
//             FILE.svg is drawn from it.
// Picture     A line for each run, coloured by its number of ranks; a mark where a run resumed, and another where that number changed.
// Errors      Throws Error(io, …) where a file cannot be written.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

struct CurvePoint {
  int run = 1;  // counted from 1: each resume begins another
  int64_t step = 0;
  double loss = 0;
  double lr = 0;
  int ranks = 1;
  double seconds = 0;  // that the step took
};

// The points of a .csv, in the order of its lines; none where there is no such file.
std::vector<CurvePoint> read_curve(const std::string& csv);
// The picture of at least one point.
std::string draw_curve(const std::vector<CurvePoint>& points);

class Curve {
 public:
  // For one rank. With `go_on` it adds a run to what the files have, otherwise it begins them anew.
  Curve(const std::string& svg, bool go_on);
  void add(CurvePoint point);
  void draw() const;

 private:
  std::string svg_;
  std::string csv_;
  int run_ = 1;
  std::ofstream lines_;
};
