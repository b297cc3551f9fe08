#include "core/base/hash.h"

#include <openssl/evp.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate {

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  EVP_DigestInit_ex(context_->evp, EVP_sha256(), nullptr);
}

Sha256::~Sha256() = default;

void Sha256::Update(std::span<const std::byte> bytes) {
  EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size());
}

void Sha256::Update(std::string_view text) {
  EVP_DigestUpdate(context_->evp, text.data(), text.size());
}

std::string Sha256::HexDigest() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context_->evp, digest, &size);
  return absl::BytesToHexString({reinterpret_cast<const char*>(digest), size});
}

std::string Sha256Hex(std::string_view text) {
  Sha256 hash;
  hash.Update(text);
  return hash.HexDigest();
}

absl::StatusOr<std::string> Sha256OfFile(const MappedFile& file, const Stopping& stopping) {
  // Between two looks: a tenth of a second of work.
  constexpr size_t kBlockBytes = size_t{64} << 20;
  Sha256 hash;
  std::span<const std::byte> left = file.bytes();
  do {
    DS_RETURN_IF_ERROR(CheckStopping(stopping));
    const size_t block = std::min(left.size(), kBlockBytes);
    hash.Update(left.first(block));
    left = left.subspan(block);
    if (file.lost()) {
      return absl::DataLossError(StrCat(file.path(), ": was cut while it was read"));
    }
  } while (!left.empty());
  return hash.HexDigest();
}

}  // namespace dreamstate
