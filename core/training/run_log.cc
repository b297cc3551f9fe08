#include "core/training/run_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/picture/line_chart.h"
#include "core/picture/png.h"

namespace dreamstate::training {
namespace {

constexpr size_t kMostBytes = size_t{1} << 32;
std::string LogPath(const std::string& run) { return run + "/log.jsonl"; }

// Calls body(line, JSON) for every whole line.
template <typename Body>
void ForEachLine(const std::string& text, const Body& body) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) return;
    const std::string_view line(text.data() + at, end + 1 - at);
    const nlohmann::json json =
        nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
    if (json.is_object()) body(line, json);
    at = end + 1;
  }
}

// 0 for a line that is of no step.
int64_t StepOf(const nlohmann::json& line) {
  const auto step = line.find("step");
  return step != line.end() && step->is_number_integer() ? step->get<int64_t>() : 0;
}

}  // namespace

absl::StatusOr<RunLog> RunLog::Open(const std::string& run, int64_t step) {
  const std::string path = LogPath(run);
  if (access(path.c_str(), F_OK) == 0) {
    DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
    std::string kept;
    ForEachLine(text, [&](std::string_view line, const nlohmann::json& json) {
      if (StepOf(json) <= step) kept += line;
    });
    if (kept.size() != text.size()) DS_RETURN_IF_ERROR(WriteFileAtomically(path, kept));
  }
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) return absl::ErrnoToStatus(errno, StrCat("cannot open ", path));
  return RunLog(path, file);
}

RunLog::RunLog(RunLog&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      waiting_(std::move(other.waiting_)) {}

RunLog::~RunLog() {
  if (file_ >= 0) close(file_);
}

absl::Status RunLog::Append(const nlohmann::json& line) {
  waiting_ += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return Flush();
}

absl::Status RunLog::Flush() {
  while (!waiting_.empty()) {
    const ssize_t count = write(file_, waiting_.data(), waiting_.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return absl::ErrnoToStatus(errno, StrCat("cannot write ", path_));
    waiting_.erase(0, static_cast<size_t>(count));
  }
  return absl::OkStatus();
}

absl::Status RunLog::Sync() {
  DS_RETURN_IF_ERROR(Flush());
  if (fdatasync(file_) == 0) return absl::OkStatus();
  return absl::ErrnoToStatus(errno, StrCat("cannot sync ", path_));
}

absl::Status WriteCurves(const std::string& run) {
  DS_ASSIGN_OR_RETURN(const std::string text, ReadFile(LogPath(run), kMostBytes));
  picture::LineChart chart = {
      .title = "Loss of the run",
      .x_axis = "million tokens",
      .y_axis = "nats a token",
      .series = {{.name = "training (smoothed)", .x = {}, .y = {}},
                 {.name = "validation", .x = {}, .y = {}, .markers = true}}};
  std::string csv = "step,tokens,loss,grad_norm,lr,validation_loss,validation_accuracy\n";
  double smoothed = std::numeric_limits<double>::quiet_NaN();
  ForEachLine(text, [&](std::string_view, const nlohmann::json& json) {
    const auto found = json.find("event");
    const std::string event =
        found != json.end() && found->is_string() ? found->get<std::string>() : "";
    const auto number = [&json](const char* name) {
      return json.contains(name) && json.at(name).is_number()
                 ? json.at(name).get<double>()
                 : std::numeric_limits<double>::quiet_NaN();
    };
    const double millions = number("tokens") / 1e6;
    const int64_t step = StepOf(json);
    if (event == "step") {
      const double loss = number("loss");
      smoothed = std::isfinite(smoothed) ? 0.95 * smoothed + 0.05 * loss : loss;
      chart.series[0].x.push_back(millions);
      chart.series[0].y.push_back(smoothed);
      csv += absl::StrFormat("%d,%.0f,%.9g,%.6g,%.6g,,\n", step, number("tokens"), loss,
                             number("grad_norm"), number("lr"));
    } else if (event == "validation") {
      chart.series[1].x.push_back(millions);
      chart.series[1].y.push_back(number("loss"));
      csv += absl::StrFormat("%d,%.0f,,,,%.9g,%.6g\n", step, number("tokens"), number("loss"),
                             number("accuracy"));
    }
  });
  // The first steps would press everything else into the lower edge.
  auto& losses = chart.series[0].y;
  if (losses.size() > 100) {
    const double top = 1.3 * losses[losses.size() / 50];
    for (double& loss : losses) loss = std::min(loss, top);
  }
  DS_ASSIGN_OR_RETURN(const picture::Image image, picture::Draw(chart));
  DS_ASSIGN_OR_RETURN(const std::string png, picture::EncodePng(image));
  DS_RETURN_IF_ERROR(WriteFileAtomically(run + "/curves.csv", csv));
  return WriteFileAtomically(run + "/curves.png", png);
}

}  // namespace dreamstate::training
