#include "core/evaluation/fidelity.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::evaluation {
namespace {

using torch::Tensor;

constexpr size_t kFewest = 20;
constexpr int kNeighbours = 10;
constexpr double kCopiedBelow = 0.05;

// [n][L * H][N * N], every matrix without its gauge.
absl::StatusOr<Tensor> Matrices(const std::vector<LabelledState>& states,
                                const state::Shape& shape) {
  if (states.size() < kFewest) {
    return absl::InvalidArgumentError(
        StrCat("fidelity: expected at least ", kFewest, " states, found ", states.size()));
  }
  const int64_t n = shape.head_size, heads = int64_t{shape.layers} * shape.heads;
  const Tensor all = torch::empty({static_cast<int64_t>(states.size()), heads, n, n});
  for (size_t i = 0; i < states.size(); ++i) {
    if (states[i].state->shape != shape) {
      return absl::InvalidArgumentError(StrCat("fidelity: state ", i, " is of another shape"));
    }
    all[static_cast<int64_t>(i)].copy_(torch::from_blob(
        const_cast<float*>(states[i].state->wkv.data()), {heads, n, n}, torch::kFloat));
  }
  all.sub_(all.mean(2, /*keepdim=*/true));
  return all.view({all.size(0), heads, n * n});
}

std::vector<int32_t> LabelsOf(const std::vector<LabelledState>& states) {
  std::vector<int32_t> labels;
  for (const LabelledState& state : states) labels.push_back(state.label);
  return labels;
}

Tensor Covariance(const Tensor& points) {
  const Tensor centred = points - points.mean(0);
  return centred.t().matmul(centred) / static_cast<double>(points.size(0) - 1);
}

// Of two normal distributions with these points' means and covariances; points [n][k] double.
double FrechetDistance(const Tensor& a, const Tensor& b) {
  const Tensor ca = Covariance(a), cb = Covariance(b);
  const auto root = [](const Tensor& matrix) {
    const auto [values, vectors] = torch::linalg_eigh(matrix);
    return vectors.matmul(torch::diag(values.clamp_min(0).sqrt())).matmul(vectors.t());
  };
  const Tensor half = root(ca);
  const Tensor cross = root(half.matmul(cb).matmul(half));
  return ((a.mean(0) - b.mean(0)).square().sum() + ca.trace() + cb.trace() - 2 * cross.trace())
      .item<double>();
}

class Meter : public FidelityMeter {
 public:
  Meter(const state::Shape& shape, const FidelityOptions& options)
      : shape_(shape), options_(options) {}

  absl::Status Fit(const std::vector<LabelledState>& training,
                   const std::vector<LabelledState>& held_out) {
    DS_ASSIGN_OR_RETURN(const Tensor matrices, Matrices(training, shape_));
    scale_ = matrices.square()
                 .mean(torch::IntArrayRef({0, 2}), /*keepdim=*/true)
                 .sqrt()
                 .clamp_min(1e-8);  // [1][heads][1]
    const Tensor points = Flat(matrices);
    mean_ = points.mean(0);
    const Tensor centred = points - mean_;
    // By the Gram matrix: there are fewer states than numbers in one.
    const auto [values, vectors] =
        torch::linalg_eigh(centred.matmul(centred.t()).to(torch::kDouble));
    const int64_t most = std::min<int64_t>(options_.components, centred.size(0) - 1);
    const Tensor strongest = values.narrow(0, values.size(0) - most, most).clamp_min(1e-12);
    variance_share_ = (strongest.sum() / values.clamp_min(0).sum()).item<double>();
    basis_ = centred.t().matmul(
        (vectors.narrow(1, vectors.size(1) - most, most) / strongest.sqrt()).to(torch::kFloat));
    training_ = Project(points);
    training_labels_ = LabelsOf(training);
    DS_ASSIGN_OR_RETURN(const Tensor held_out_matrices, Matrices(held_out, shape_));
    real_ = Project(Flat(held_out_matrices));
    real_labels_ = LabelsOf(held_out);
    real_spread_ = Spread(real_, real_labels_);
    if (!(real_spread_ > 0)) {
      return absl::InvalidArgumentError(
          "fidelity: expected labels with two held-out states or more, found none");
    }
    // The floor: held-out states against as many training ones.
    floor_ = FrechetDistance(AsMany(real_.size(0)), real_);
    real_nearest_ = std::get<0>(torch::cdist(real_, training_).min(1));
    return absl::OkStatus();
  }

  double variance_share() const override { return variance_share_; }

  FidelityRow Real() override {
    FidelityRow row = Row("real", "held-out real states", real_, real_labels_);
    row.classifier = Classifier(AsMany(real_.size(0)));  // not against themselves
    return row;
  }

  absl::StatusOr<FidelityRow> Measure(std::string id, std::string name,
                                      const std::vector<LabelledState>& states) override {
    const torch::NoGradGuard no_gradients;
    DS_ASSIGN_OR_RETURN(const Tensor matrices, Matrices(states, shape_));
    return Row(std::move(id), std::move(name), Project(Flat(matrices)), LabelsOf(states));
  }

 private:
  Tensor Flat(const Tensor& matrices) const {
    return (matrices / scale_).view({matrices.size(0), -1});
  }
  Tensor Project(const Tensor& points) const {
    return (points - mean_).matmul(basis_).to(torch::kDouble);
  }
  // Training states that lie evenly over all.
  Tensor AsMany(int64_t count) const {
    const int64_t all = training_.size(0);
    const Tensor index =
        (torch::arange(std::min(count, all)) * all / std::min(count, all)).floor().to(torch::kLong);
    return training_.index_select(0, index);
  }

  // Mean distance of two points of a label; labels count alike.
  static double Spread(const Tensor& points, const std::vector<int32_t>& labels) {
    std::map<int32_t, std::vector<int64_t>> by_label;
    for (size_t i = 0; i < labels.size(); ++i)
      by_label[labels[i]].push_back(static_cast<int64_t>(i));
    double sum = 0;
    int count = 0;
    for (const auto& [label, members] : by_label) {
      if (members.size() < 2) continue;
      sum += torch::pdist(points.index_select(0, torch::tensor(members, torch::kLong)))
                 .mean()
                 .item<double>();
      ++count;
    }
    return count == 0 ? 0 : sum / count;
  }

  // Share of held-out points that a network of one hidden layer, trained on half of both kinds,
  // names rightly.
  double Classifier(const Tensor& points) const {
    const torch::AutoGradMode gradients(true);
    torch::manual_seed(options_.seed);
    const int64_t count = std::min(points.size(0), real_.size(0));
    const auto some = [count](const Tensor& all) {
      return all.index_select(0, torch::randperm(all.size(0)).narrow(0, 0, count))
          .to(torch::kFloat);
    };
    const Tensor a = some(real_), b = some(points);
    const Tensor deviation = a.std(0).clamp_min(1e-6);
    const int64_t half = count / 2;
    const auto both = [&](int64_t begin, int64_t size) {
      return torch::cat({a.narrow(0, begin, size), b.narrow(0, begin, size)}) / deviation;
    };
    const auto kinds = [](int64_t size) {
      return torch::cat({torch::zeros({size}), torch::ones({size})});
    };
    torch::nn::Sequential network(torch::nn::Linear(points.size(1), 64), torch::nn::ReLU(),
                                  torch::nn::Linear(64, 1));
    torch::optim::AdamW optimiser(network->parameters(),
                                  torch::optim::AdamWOptions(2e-3).weight_decay(0.1));
    const Tensor known = both(0, half), known_kinds = kinds(half);
    for (int step = 0; step < options_.classifier_steps; ++step) {
      optimiser.zero_grad();
      torch::binary_cross_entropy_with_logits(network->forward(known).squeeze(1), known_kinds)
          .backward();
      optimiser.step();
    }
    const torch::NoGradGuard no_gradients;
    const Tensor asked = both(half, count - half);
    return network->forward(asked)
        .squeeze(1)
        .gt(0)
        .to(torch::kFloat)
        .eq(kinds(count - half))
        .to(torch::kDouble)
        .mean()
        .item<double>();
  }

  FidelityRow Row(std::string id, std::string name, const Tensor& points,
                  const std::vector<int32_t>& labels) {
    FidelityRow row = {.id = std::move(id), .name = std::move(name), .states = points.size(0)};
    row.frechet = FrechetDistance(AsMany(points.size(0)), points) / floor_;
    row.classifier = Classifier(points);
    row.diversity = Spread(points, labels) / real_spread_;
    const auto [distances, nearest] =
        torch::cdist(points, training_)
            .topk(std::min<int64_t>(kNeighbours, training_.size(0)), 1, /*largest=*/false);
    int64_t same = 0;
    const auto index = nearest.accessor<int64_t, 2>();
    for (int64_t i = 0; i < nearest.size(0); ++i) {
      for (int64_t k = 0; k < nearest.size(1); ++k) {
        same +=
            training_labels_[static_cast<size_t>(index[i][k])] == labels[static_cast<size_t>(i)];
      }
    }
    row.purity = static_cast<double>(same) / static_cast<double>(nearest.numel());
    const Tensor near = distances.select(1, 0);
    // Ties count half.
    const Tensor difference = real_nearest_.unsqueeze(0) - near.unsqueeze(1);
    row.memorisation =
        (difference.gt(0).to(torch::kDouble) + 0.5 * difference.eq(0).to(torch::kDouble))
            .mean()
            .item<double>();
    const Tensor threshold = torch::quantile(real_nearest_, kCopiedBelow);
    row.copied = near.lt(threshold).to(torch::kDouble).mean().item<double>();
    return row;
  }

  const state::Shape shape_;
  const FidelityOptions options_;
  Tensor scale_, mean_, basis_;
  Tensor training_, real_, real_nearest_;
  std::vector<int32_t> training_labels_, real_labels_;
  double variance_share_ = 0, floor_ = 0, real_spread_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<FidelityMeter>> FidelityMeter::Make(
    const std::vector<LabelledState>& training, const std::vector<LabelledState>& held_out,
    const FidelityOptions& options) {
  if (training.empty()) return absl::InvalidArgumentError("fidelity: expected training states");
  const torch::NoGradGuard no_gradients;
  auto meter = std::make_unique<Meter>(training[0].state->shape, options);
  DS_RETURN_IF_ERROR(meter->Fit(training, held_out));
  return meter;
}

Table FidelityTable(const std::vector<FidelityRow>& rows, double variance_share,
                    const FidelityOptions& options) {
  Table table;
  table.title = absl::StrFormat(
      "Are they like real states? On %d components, %.0f %% of the training states' variance",
      options.components, 100 * variance_share);
  table.columns = {"states",    "number", "Frechet / floor", "classifier",
                   "diversity", "purity", "memorisation",    "copied"};
  const auto number = [](double value) { return absl::StrFormat("%.2f", value); };
  for (const FidelityRow& row : rows) {
    table.rows.push_back({row.name, StrCat(row.states), number(row.frechet), number(row.classifier),
                          number(row.diversity), number(row.purity), number(row.memorisation),
                          absl::StrFormat("%.0f %%", 100 * row.copied)});
  }
  table.notes.push_back(
      "Frechet distance to training states over that of held-out real ones; classifier: share of "
      "held-out states told from real ones, .5 = none; diversity within a label over that of real "
      "ones; purity: label of the ten nearest training states; memorisation: probability to be "
      "nearer to a training state than a real one is; copied: nearer than 95 % of real ones.");
  return table;
}

nlohmann::ordered_json FidelityJson(const std::vector<FidelityRow>& rows) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const FidelityRow& row : rows) {
    json[row.id] = {{"states", row.states},         {"frechet", row.frechet},
                    {"classifier", row.classifier}, {"diversity", row.diversity},
                    {"purity", row.purity},         {"memorisation", row.memorisation},
                    {"copied", row.copied}};
  }
  return json;
}

}  // namespace dreamstate::evaluation
