// dreamstate states compare
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/arguments.h"
#include "client/cli/commands.h"
#include "client/cli/heat_map.h"
#include "client/names.h"

namespace dreamstate::cli {
namespace {

struct Arguments {
  std::string first, second;
  std::string map = "distance";
  PngArguments png;
};

using Differences = google::protobuf::RepeatedPtrField<v1::HeadDifference>;

// "0.91 to 0.99": over all of them.
std::string ShowRange(const Differences& differences, float (v1::HeadDifference::*value)() const) {
  if (differences.empty()) return "-";
  float least = (differences[0].*value)(), greatest = least;
  for (const v1::HeadDifference& difference : differences) {
    least = std::min(least, (difference.*value)());
    greatest = std::max(greatest, (difference.*value)());
  }
  return absl::StrFormat("%.4f to %.4f", least, greatest);
}

void PrintTable(Output& output, const v1::CompareStatesResponse& compared) {
  Table table({"PART", "COSINE", "DISTANCE"}, {false, true, true});
  table.Add({"all matrices together", absl::StrFormat("%.4f", compared.total().cosine()),
             absl::StrFormat("%.4f", compared.total().relative_distance())});
  const auto add = [&table](const char* part, const Differences& differences) {
    table.Add({part, ShowRange(differences, &v1::HeadDifference::cosine),
               ShowRange(differences, &v1::HeadDifference::relative_distance)});
  };
  add("each matrix", compared.heads());
  add("each time mix shift", compared.time_mix_shift());
  add("each channel mix shift", compared.channel_mix_shift());
  table.Print(output);
}

absl::Status Compare(Session& session, const Arguments& arguments) {
  if (absl::Status status = arguments.png.Check(); !status.ok()) return status;
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();
  const absl::StatusOr<v1::CompareStatesResponse> compared =
      (*client)->CompareStates(arguments.first, arguments.second, session.Call());
  if (!compared.ok()) return compared.status();

  Output& output = session.output();
  HeadMap map;
  const bool cosine = arguments.map == "cosine";
  map.title = cosine ? "Cosine of every matrix" : "Distance of every matrix";
  map.subtitle =
      absl::StrCat(client::IdOf(arguments.first), " and ", client::IdOf(arguments.second));
  map.layers = compared->time_mix_shift_size();
  map.heads = map.layers > 0 ? compared->heads_size() / map.layers : 0;
  if (absl::Status status = CheckSizes(map.layers, map.heads, compared->heads_size());
      !status.ok()) {
    return status;
  }
  for (const v1::HeadDifference& head : compared->heads())
    map.values.push_back(cosine ? head.cosine() : head.relative_distance());

  if (output.json()) {
    output.Json(*compared);
  } else {
    PrintTable(output, *compared);
    if (compared->identical()) {
      output.Line("the same to the bit");
    } else if (arguments.map != "none") {
      output.Line("");
      Print(map, output);
    }
  }
  return arguments.png.Write(map, output);
}

}  // namespace

void AddStatesCompare(CLI::App& parent, Session& session) {
  CLI::App* command = AddCommand(
      parent, "compare", "How far two states of one backbone lie apart, layer by layer",
      "  dreamstate states compare STATE OTHER\n"
      "  dreamstate states compare STATE OTHER --map cosine --png cosine.png\n"
      "  dreamstate states compare STATE OTHER --json\n"
      "\n"
      "The cosine is that of the angle between two matrices taken as vectors: 1 = one direction.\n"
      "The distance is the norm of their difference over the larger norm: 0 = equal.");
  const auto a = std::make_shared<Arguments>();
  command->add_option("STATE", a->first, "A state's name or id")
      ->required()
      ->type_name("")
      ->check(kUtf8);
  command->add_option("OTHER", a->second, "The name or id of the one it is compared with")
      ->required()
      ->type_name("")
      ->check(kUtf8);
  command
      ->add_option("--map", a->map,
                   "What is drawn for every layer and head: distance, cosine or none")
      ->type_name("MAP")
      ->check(CLI::IsMember({"distance", "cosine", "none"}))
      ->capture_default_str();
  a->png.AddTo(*command);
  command->callback([&session, a] { session.Choose([a](Session& s) { return Compare(s, *a); }); });
}

}  // namespace dreamstate::cli
