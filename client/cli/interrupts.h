// Ctrl-C. The first one ends the call that runs, so that the server hears of it at once; a second
// one, while the first is still being answered, ends the program.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "client/cancellation.h"

namespace dreamstate::cli {

// One a program, made in main before any other thread (SIGINT is blocked in this thread and those
// that it starts). Where SIGINT was ignored at the start (nohup), it stays ignored.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // What Ctrl-C cancels.
  std::shared_ptr<client::Cancellation> cancellation();
  // Forgets an interrupt that was answered: later calls run again.
  void Reset();

  // Waits until `fd` can be read; false when interrupted first (or before).
  bool WaitReadable(int fd);

 private:
  void Listen();

  std::mutex mutex_;
  std::shared_ptr<client::Cancellation> cancellation_;  // guarded by mutex_
  int signal_fd_ = -1;                                  // SIGINT arrives here
  int stop_fd_ = -1;                                    // written by the destructor
  int interrupted_fd_ = -1;                             // readable from an interrupt to Reset
  std::thread listener_;
};

}  // namespace dreamstate::cli
