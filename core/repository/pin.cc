#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "absl/strings/escaping.h"
#include "core/base/file.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/repository/layout.h"
#include "core/repository/repository.h"

namespace dreamstate::repository {
namespace {

// A version number and a line's end; people write them too.
constexpr size_t kMaxPinBytes = 64;

// On a mount that is read-only, or somebody else's, nothing that is asked for here can be done.
absl::Status CannotWrite(absl::Status status, const std::string& repository) {
  const bool forbidden = absl::IsPermissionDenied(status) || absl::IsFailedPrecondition(status) ||
                         StdView(status.message()).find("Read-only") != std::string_view::npos;
  if (!forbidden) return status;
  return absl::FailedPreconditionError(
      StrCat("the model repository ", repository,
             " cannot be written from here: ", StdView(status.message())));
}

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

absl::StatusOr<std::optional<int64_t>> Repository::Pinned(const std::string& model) const {
  DS_RETURN_IF_ERROR(ValidateModelName(model));
  const std::string path = PinPath(path_, model);
  const absl::StatusOr<std::string> text = ReadFile(path, kMaxPinBytes);
  if (absl::IsNotFound(text.status())) return std::nullopt;
  if (!text.ok()) return text.status();
  std::string_view number = *text;
  if (number.ends_with('\n')) number.remove_suffix(1);
  int64_t version = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), version);
  if (error == std::errc() && version >= 1 && StrCat(version) == number) return version;
  return absl::InvalidArgumentError(StrCat("pin: expected a version number, found \"",
                                           absl::CHexEscape(AbslView(number)), "\" (", path, ")"));
}

absl::Status Repository::Pin(const std::string& model, int64_t version) {
  DS_RETURN_IF_ERROR(ValidateModelName(model));
  const std::string manifest = ManifestPath(path_, model, version);
  const absl::Status missing =
      ResourceError(absl::StatusCode::kNotFound, "version", StrCat(version),
                    StrCat("model ", model, " has none of that number in ", path_));
  if (!Exists(manifest)) return missing;
  const std::string path = PinPath(path_, model);
  const absl::StatusOr<std::string> before = ReadFile(path, kMaxPinBytes);
  DS_RETURN_IF_ERROR(CannotWrite(WriteFileAtomically(path, StrCat(version, "\n")), path_));
  if (Exists(manifest)) return absl::OkStatus();
  // Retired between the two looks, by somebody who had not seen the pin: what was pinned before is
  // pinned again, unless somebody else has pinned meanwhile.
  const auto ours = [&] {
    const absl::StatusOr<std::optional<int64_t>> pinned = Pinned(model);
    return pinned.ok() && *pinned == version;
  };
  if (!ours()) return missing;
  if (before.ok() && *before != StrCat(version, "\n")) {
    DS_RETURN_IF_ERROR(CannotWrite(WriteFileAtomically(path, *before), path_));
    // As ours, it counts only where its version is there after it was written. What is no number
    // stays what it was.
    const absl::StatusOr<std::optional<int64_t>> restored = Pinned(model);
    if (!restored.ok() || !*restored || Exists(ManifestPath(path_, model, **restored))) {
      return missing;
    }
  }
  DS_RETURN_IF_ERROR(Unpin(model));
  return missing;
}

absl::Status Repository::Unpin(const std::string& model) {
  DS_RETURN_IF_ERROR(ValidateModelName(model));
  const std::string path = PinPath(path_, model);
  if (unlink(path.c_str()) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return CannotWrite(absl::ErrnoToStatus(errno, StrCat("cannot remove ", path)), path_);
  }
  return SyncDirectory(ModelDirectory(path_, model));
}

}  // namespace dreamstate::repository
