#include "core/state/rocksdb/keys.h"

#include "core/base/strings.h"
#include "core/state/identifier.h"

namespace dreamstate::state {
namespace {

void AppendBigEndian(std::string* out, uint64_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) {
    out->push_back(static_cast<char>(value >> shift));
  }
}

uint64_t BigEndian(std::string_view bytes) {
  uint64_t value = 0;
  for (const char byte : bytes) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

constexpr size_t kLengthBytes = 4;
constexpr size_t kTimeBytes = 8;

void AppendSized(std::string* out, std::string_view part) {
  AppendBigEndian(out, part.size(), kLengthBytes);
  out->append(part);
}

std::string Key(char kind, std::string_view tenant) {
  std::string key(1, kind);
  AppendSized(&key, tenant);
  return key;
}

std::string Key(char kind, std::string_view tenant, std::string_view value) {
  std::string key = Key(kind, tenant);
  AppendSized(&key, value);
  return key;
}

std::string ExpiryKey(absl::Time expires, std::string_view tenant, std::string_view id) {
  std::string key = "x";
  AppendBigEndian(&key, static_cast<uint64_t>(absl::ToUnixMicros(expires)), kTimeBytes);
  AppendSized(&key, tenant);
  key.append(id);
  return key;
}

// A sized tenant and an id, and nothing else.
bool SplitTenantAndId(std::string_view key, std::string* tenant, std::string* id) {
  if (key.size() < kLengthBytes + kIdBytes) return false;
  const uint64_t length = BigEndian(key.substr(0, kLengthBytes));
  if (key.size() != kLengthBytes + length + kIdBytes) return false;
  tenant->assign(key.substr(kLengthBytes, length));
  id->assign(key.substr(kLengthBytes + length));
  return true;
}

}  // namespace

std::string RowKey(std::string_view tenant, std::string_view id) {
  return Key('r', tenant).append(id);
}
std::string DamagedKey(std::string_view tenant, std::string_view id) {
  return Key('q', tenant).append(id);
}
std::string OrphanKey(std::string_view tenant, std::string_view parent, std::string_view child) {
  return Key('g', tenant, parent).append(child);
}
std::string RecordKey(std::string_view tenant, std::string_view id) {
  return Key('r', tenant).append(id);
}
std::string SetAsideKey(std::string_view tenant, std::string_view id) {
  return Key('q', tenant).append(id);
}

std::string LivePrefix(std::string_view tenant) { return Key('a', tenant); }
std::string LabelPrefix(std::string_view tenant, std::string_view label) {
  return Key('l', tenant, label);
}
std::string ModelPrefix(std::string_view tenant, std::string_view model) {
  return Key('m', tenant, model);
}
std::string BackbonePrefix(std::string_view tenant, std::string_view fingerprint) {
  return Key('f', tenant, fingerprint);
}
std::string ParentPrefix(std::string_view tenant, std::string_view parent) {
  return Key('p', tenant, parent);
}
std::string ChildPrefix(std::string_view tenant, std::string_view parent) {
  return Key('c', tenant, parent);
}

std::string EndOfPrefix(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xFF) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(prefix.back() + 1);
  return prefix;
}

bool SplitKey(std::string_view key, std::string* tenant, std::string* id) {
  return !key.empty() && SplitTenantAndId(key.substr(1), tenant, id);
}

bool SplitOrphanKey(std::string_view key, std::string* tenant, std::string* parent,
                    std::string* child) {
  if (key.size() < 1 + kLengthBytes + kIdBytes) return false;
  const uint64_t tenant_length = BigEndian(key.substr(1, kLengthBytes));
  const size_t expected = 1 + 2 * kLengthBytes + 2 * kIdBytes;
  if (key.size() < expected || key.size() - expected != tenant_length) return false;
  tenant->assign(key.substr(1 + kLengthBytes, tenant_length));
  parent->assign(key.substr(1 + 2 * kLengthBytes + tenant_length, kIdBytes));
  child->assign(key.substr(key.size() - kIdBytes));
  return true;
}

bool SplitExpiryKey(std::string_view key, absl::Time* expires, std::string* tenant,
                    std::string* id) {
  if (key.size() < 1 + kTimeBytes) return false;
  *expires = absl::FromUnixMicros(static_cast<int64_t>(BigEndian(key.substr(1, kTimeBytes))));
  return SplitTenantAndId(key.substr(1 + kTimeBytes), tenant, id);
}

bool IsIndexEntryOf(std::string_view key, std::string_view tenant, std::string_view id) {
  if (key.empty() || !key.ends_with(id)) return false;
  constexpr std::string_view kOfTenant = "almfpcq";
  if (kOfTenant.find(key[0]) != std::string_view::npos) return key.starts_with(Key(key[0], tenant));
  absl::Time expires;
  std::string its_tenant;
  std::string its_id;
  return key[0] == 'x' && SplitExpiryKey(key, &expires, &its_tenant, &its_id) &&
         its_tenant == tenant && its_id == id;
}

std::map<std::string, std::string> IndexEntries(std::string_view tenant, const Row& row) {
  std::map<std::string, std::string> entries;
  const Description& description = row.description;
  const Record& record = description.record;
  const std::string& id = record.id;
  for (const std::string& parent : record.lineage.parents) {
    entries[ChildPrefix(tenant, parent) + id];
  }
  if (!row.damage.empty()) entries[DamagedKey(tenant, id)];
  if (description.deleted) return entries;
  entries[LivePrefix(tenant) + id] = StrCat(row.stored_bytes);
  entries[ModelPrefix(tenant, record.model) + id];
  entries[BackbonePrefix(tenant, record.fingerprint) + id];
  for (const std::string& label : description.labels) entries[LabelPrefix(tenant, label) + id];
  for (const std::string& parent : record.lineage.parents) {
    entries[ParentPrefix(tenant, parent) + id];
  }
  if (description.expires.has_value()) entries[ExpiryKey(*description.expires, tenant, id)];
  return entries;
}

}  // namespace dreamstate::state
