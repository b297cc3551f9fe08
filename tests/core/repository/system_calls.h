// Stands before the system calls that change files, so that a test can follow them, make the n-th
// fail or die at it.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace dreamstate::testing {

enum class Fault { kNone, kFail, kFailFrom, kDie };

// From now on counts the calls to open (for writing), write, fsync, rename, link, unlink, mkdir and
// utimensat below `root`. With kFail the n-th (from 1) answers `error` instead, with kFailFrom also
// all behind it; with kDie the process ends just before it, as if it were killed.
void StartFault(const std::string& root, Fault fault, int n, int error);
// Calls in order so far, such as "rename blobs/sha256/x.tmp blobs/sha256/x"; ends the counting.
std::vector<std::string> StopFault();

// Once, just before the next call with this text, such as "read bundles/tiny/1.json" (an open for
// reading, which is not counted otherwise), `action` runs, uncounted. Between StartFault and
// StopFault; one at a time.
void RunBefore(const std::string& call, std::function<void()> action);

// The exit status of a process that ended by kDie.
inline constexpr int kDied = 42;

}  // namespace dreamstate::testing
