// A disk that is soon full.
#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <string>

namespace dreamstate::testing {

// A file system of 24 MiB in memory, on a directory that this makes; not mounted() without root.
class SmallDisk {
 public:
  explicit SmallDisk(const std::string& path) : path_(path) {
    std::filesystem::create_directory(path);
    mounted_ = mount("tmpfs", path.c_str(), "tmpfs", 0, "size=24m") == 0;
  }
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  bool mounted() const { return mounted_; }

 private:
  const std::string path_;
  bool mounted_ = false;
};

}  // namespace dreamstate::testing
