// Where things lie in a repository.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace dreamstate::repository {

// 64 lower-case hexadecimal digits.
bool IsDigest(std::string_view text);

// Every run of 64 such digits in `text`. No parsing: a manifest that cannot be understood (damaged,
// or of a later release) still names its blobs.
std::set<std::string> DigestsIn(std::string_view text);

std::string BlobDirectory(const std::string& repository);
std::string BlobPath(const std::string& repository, const std::string& digest);
std::string BundlesDirectory(const std::string& repository);
std::string ModelDirectory(const std::string& repository, const std::string& model);
std::string ManifestPath(const std::string& repository, const std::string& model, int64_t version);
std::string PinPath(const std::string& repository, const std::string& model);
// Where a manifest lies while it is being retired: no version any more, and still naming its blobs.
std::string RetiredPath(const std::string& repository, const std::string& model, int64_t version);

// The highest number that a version can have: the next one must exist.
inline constexpr int64_t kMostVersion = INT64_MAX - 1;
// The version whose manifest has this file name; nothing for any other name.
std::optional<int64_t> VersionOfFile(std::string_view name);
// The same for the names that RetiredPath gives.
std::optional<int64_t> VersionOfRetiredFile(std::string_view name);

}  // namespace dreamstate::repository
