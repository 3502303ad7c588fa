#include "examples/gpt/curve.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <map>
#include <sstream>

#include "tessera/base/error.h"

namespace {

constexpr double width = 900, height = 460, left = 60, right = 20, top = 50, bottom = 50;
constexpr const char* head = "run,step,loss,lr,ranks,seconds";
constexpr const char* colours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"};

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

// From values to places on the paper.
struct Axis {
  double least, most, from, to;
  double operator()(double value) const { return from + (value - least) / (most - least) * (to - from); }
  // Round values, at most some eight.
  std::vector<double> ticks() const {
    const double rough = (most - least) / 6;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double step = power * (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10);
    std::vector<double> values;
    for (double i = std::ceil(least / step); i * step <= most; ++i) values.push_back(i * step);
    return values;
  }
};

Axis axis(double least, double most, double from, double to) {
  return least < most ? Axis{least, most, from, to} : Axis{least - 0.5, most + 0.5, from, to};
}

class Picture {
 public:
  explicit Picture(const std::vector<CurvePoint>& points) : points_(points) {
    const auto [first, last] = std::ranges::minmax(points, {}, &CurvePoint::step);
    const auto [low, high] = std::ranges::minmax(points, {}, &CurvePoint::loss);
    x_ = axis(static_cast<double>(first.step), static_cast<double>(last.step), left, width - right);
    y_ = axis(low.loss, high.loss, height - bottom, top);
    for (const CurvePoint& point : points) colours_.try_emplace(point.ranks, colours[colours_.size() % std::size(colours)]);
  }

  std::string draw() {
    out_ << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << width << "\" height=\"" << height << "\" viewBox=\"0 0 " << width << ' '
         << height << "\" font-family=\"sans-serif\" font-size=\"12\">\n"
         << "<title>loss by step</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    grid();
    for (auto run = points_.begin(); run != points_.end();) {
      const auto end = std::find_if(run, points_.end(), [&](const CurvePoint& point) { return point.run != run->run; });
      if (run != points_.begin()) mark(*(run - 1), *run);
      line({run, end});
      run = end;
    }
    legend();
    out_ << "</svg>\n";
    return out_.str();
  }

 private:
  void text(double x, double y, const char* anchor, const std::string& what) {
    out_ << "<text x=\"" << number(x) << "\" y=\"" << number(y) << "\" text-anchor=\"" << anchor << "\">" << what << "</text>\n";
  }
  void stroke(double x1, double y1, double x2, double y2, const std::string& style) {
    out_ << "<line x1=\"" << number(x1) << "\" y1=\"" << number(y1) << "\" x2=\"" << number(x2) << "\" y2=\"" << number(y2) << "\" "
         << style << "/>\n";
  }
  void grid() {
    for (const double loss : y_.ticks()) {
      stroke(left, y_(loss), width - right, y_(loss), "stroke=\"#e4e4e4\"");
      text(left - 6, y_(loss) + 4, "end", number(loss));
    }
    for (const double step : x_.ticks()) {
      stroke(x_(step), top, x_(step), height - bottom, "stroke=\"#e4e4e4\"");
      text(x_(step), height - bottom + 18, "middle", number(step));
    }
    text((left + width - right) / 2, height - 12, "middle", "step");
    text(left, top - 12, "middle", "loss");
  }
  void line(const std::vector<CurvePoint>& run) {
    out_ << "<polyline class=\"run\" fill=\"none\" stroke-width=\"1.5\" stroke=\"" << colours_.at(run.front().ranks) << "\" points=\"";
    for (const CurvePoint& point : run) {
      out_ << number(x_(static_cast<double>(point.step))) << ',' << number(y_(point.loss)) << ' ';
    }
    out_ << "\"/>\n";
  }
  void mark(const CurvePoint& before, const CurvePoint& after) {
    const double x = x_(static_cast<double>(after.step) - 0.5), y = top + 14 + 28 * (after.run % 4);  // labels do not cover each other
    out_ << "<g class=\"resume\" data-step=\"" << after.step - 1 << "\">\n";
    stroke(x, top, x, height - bottom, "stroke=\"#555\" stroke-dasharray=\"4 3\"");
    text(x + 8, y, "start", "resumed from step " + std::to_string(after.step - 1));
    out_ << "</g>\n";
    if (before.ranks == after.ranks) return;
    out_ << "<g class=\"ranks\" data-from=\"" << before.ranks << "\" data-to=\"" << after.ranks << "\">\n<circle cx=\"" << number(x)
         << "\" cy=\"" << number(y_(after.loss)) << "\" r=\"5\" fill=\"" << colours_.at(after.ranks) << "\"/>\n";
    text(x + 8, y + 14, "start", std::to_string(before.ranks) + " → " + std::to_string(after.ranks) + " ranks");
    out_ << "</g>\n";
  }
  void legend() {
    double x = left + 40;
    for (const auto& [ranks, colour] : colours_) {
      stroke(x, top - 16, x + 20, top - 16, "stroke-width=\"3\" stroke=\"" + colour + "\"");
      text(x + 26, top - 12, "start", std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks"));
      x += 100;
    }
  }

  const std::vector<CurvePoint>& points_;
  Axis x_{}, y_{};
  std::map<int, std::string> colours_;  // by number of ranks
  std::ostringstream out_;
};

void check(const std::ostream& out, const std::string& file) {
  if (!out) throw tessera::Error(tessera::os_fault(errno ? errno : EIO, "write the curve", file));
}

bool ends_within_a_line(const std::string& file) {
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in || in.tellg() == 0) return false;
  in.seekg(-1, std::ios::end);
  return in.get() != '\n';
}

}  // namespace

std::vector<CurvePoint> read_curve(const std::string& csv) {
  std::vector<CurvePoint> points;
  std::ifstream in(csv);
  for (std::string line; std::getline(in, line) && !in.eof();) {
    CurvePoint point;
    long long step = 0;
    int length = -1;
    std::sscanf(line.c_str(), "%d,%lld,%lf,%lf,%d,%lf%n", &point.run, &step, &point.loss, &point.lr, &point.ranks, &point.seconds, &length);
    if (length != static_cast<int>(line.size()) || !std::isfinite(point.loss)) continue;
    point.step = step;
    points.push_back(point);
  }
  return points;
}

std::string draw_curve(const std::vector<CurvePoint>& points) { return Picture(points).draw(); }

Curve::Curve(const std::string& svg, bool go_on) : svg_(svg), csv_(svg.substr(0, svg.size() - 4) + ".csv") {
  const std::vector<CurvePoint> before = go_on ? read_curve(csv_) : std::vector<CurvePoint>();
  if (!before.empty()) run_ = before.back().run + 1;
  const bool torn = !before.empty() && ends_within_a_line(csv_);
  lines_.open(csv_, before.empty() ? std::ios::trunc : std::ios::app);
  lines_.precision(12);
  if (before.empty()) lines_ << head << std::endl;
  if (torn) lines_ << std::endl;
  check(lines_, csv_);
}

void Curve::add(CurvePoint point) {
  lines_ << run_ << ',' << point.step << ',' << point.loss << ',' << point.lr << ',' << point.ranks << ',' << point.seconds << std::endl;
  check(lines_, csv_);
}

void Curve::draw() const {
  const std::vector<CurvePoint> points = read_curve(csv_);
  if (points.empty()) return;
  std::ofstream out(svg_);
  out << draw_curve(points) << std::flush;
  check(out, svg_);
}
