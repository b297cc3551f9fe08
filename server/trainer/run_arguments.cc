#include "server/trainer/run_arguments.h"

#include "core/base/strings.h"

namespace dreamstate::trainer {

void AddRunArguments(CLI::App& command, RunArguments* arguments, const std::string& examples,
                     const std::function<std::string()>& describe) {
  command.footer([examples, describe] {
    return StrCat(examples, "\n\nKeys of a config, SECTION.KEY for {\"SECTION\": {\"KEY\": …}}:\n",
                  describe());
  });
  CLI::Option* config = command.add_option("--config", arguments->config,
                                           "The run's config, a JSON file; its keys below");
  CLI::Option* run = command.add_option("--run", arguments->run, "The run's directory");
  command.add_option("--admin-address", arguments->admin_address,
                     "Serve /metrics here, HOST:PORT; nowhere when it is not given");
  command.add_flag("--resume", arguments->resume, "Continue the run that is there");
  CLI::Option* print =
      command.add_flag("--print-config", arguments->print_config,
                       "Print the config with everything it does not say as JSON, and end");
  command.callback([=] {
    if (print->count() > 0) return;
    if (config->count() == 0) throw CLI::RequiredError("--config");
    if (run->count() == 0) throw CLI::RequiredError("--run");
  });
}

}  // namespace dreamstate::trainer
