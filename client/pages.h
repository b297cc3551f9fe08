// Walks a list that the server hands out in pages.
//
//   auto states = client->States({});
//   for (;;) {
//     auto state = states.Next();
//     if (!state.ok()) return state.status();
//     if (!state->has_value()) break;
//     Use(**state);
//   }
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace dreamstate::client {

// Reads one page ahead of what was asked for, never more. Not thread-safe.
template <typename Item>
class Pages {
 public:
  struct Page {
    std::vector<Item> items;
    std::string next_page_token;  // empty on the last page
  };
  // Fetches the page of a token; the first token is empty.
  using Fetch = std::function<absl::StatusOr<Page>(const std::string& page_token)>;

  explicit Pages(Fetch fetch) : fetch_(std::move(fetch)) {}

  // The next item, nothing at the end, or what a fetch failed with (then again on every later
  // call). INTERNAL when the server's page tokens lead nowhere.
  absl::StatusOr<std::optional<Item>> Next() {
    int empty_pages = 0;
    while (items_.empty() && !done_ && failure_.ok()) {
      absl::StatusOr<Page> page = fetch_(token_);
      if (!page.ok()) {
        failure_ = page.status();
      } else if (!page->next_page_token.empty() && page->next_page_token == token_) {
        failure_ = absl::InternalError("the server sent the same page token twice");
      } else if (page->items.empty() && ++empty_pages > kMaxEmptyPages) {
        failure_ = absl::InternalError("the server keeps sending empty pages");
      } else {
        for (Item& item : page->items) items_.push_back(std::move(item));
        token_ = std::move(page->next_page_token);
        done_ = token_.empty();
      }
    }
    if (items_.empty()) {
      if (!failure_.ok()) return failure_;
      return std::optional<Item>();
    }
    std::optional<Item> item(std::move(items_.front()));
    items_.pop_front();
    return item;
  }

  // All items that are left, at most `limit`.
  absl::StatusOr<std::vector<Item>> Collect(size_t limit) {
    std::vector<Item> all;
    while (all.size() < limit) {
      absl::StatusOr<std::optional<Item>> item = Next();
      if (!item.ok()) return item.status();
      if (!item->has_value()) break;
      all.push_back(*std::move(*item));
    }
    return all;
  }

 private:
  static constexpr int kMaxEmptyPages = 1000;
  Fetch fetch_;
  std::deque<Item> items_;
  std::string token_;
  bool done_ = false;
  absl::Status failure_;
};

}  // namespace dreamstate::client
