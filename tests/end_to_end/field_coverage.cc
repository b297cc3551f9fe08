#include "tests/end_to_end/field_coverage.h"

#include <algorithm>
#include <memory>

#include "google/protobuf/util/message_differencer.h"

namespace dreamstate::testing {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::util::MessageDifferencer;

std::string Key(const FieldDescriptor& field) {
  return field.containing_type()->name() + "." + field.name();
}

// A copy of `message` in which `field` alone is kept.
std::unique_ptr<Message> Only(const Message& message, const FieldDescriptor& field) {
  std::unique_ptr<Message> copy(message.New());
  copy->CopyFrom(message);
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* other = message.GetDescriptor()->field(i);
    if (other != &field) copy->GetReflection()->ClearField(copy.get(), other);
  }
  return copy;
}

void Differences(const Message& good, const Message& spoilt, std::set<std::string>* fields) {
  const Descriptor& type = *good.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (MessageDifferencer::Equals(*Only(good, field), *Only(spoilt, field))) continue;
    fields->insert(Key(field));
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || field.is_map()) continue;
    if (!field.is_repeated()) {
      Differences(good.GetReflection()->GetMessage(good, &field),
                  spoilt.GetReflection()->GetMessage(spoilt, &field), fields);
      continue;
    }
    // What was added or changed, beside what stood in its place or nothing.
    const int before = good.GetReflection()->FieldSize(good, &field);
    for (int n = 0; n < spoilt.GetReflection()->FieldSize(spoilt, &field); ++n) {
      const Message& now = spoilt.GetReflection()->GetRepeatedMessage(spoilt, &field, n);
      const std::unique_ptr<Message> nothing(now.New());
      Differences(n < before ? good.GetReflection()->GetRepeatedMessage(good, &field, n) : *nothing,
                  now, fields);
    }
  }
}

void FieldsOf(const Descriptor& type, std::set<std::string>* types, std::set<std::string>* fields) {
  if (type.file()->package() != "dreamstate.v1" || !types->insert(type.full_name()).second) return;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_BOOL) fields->insert(Key(field));
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      FieldsOf(*field.message_type(), types, fields);
    }
  }
}

}  // namespace

void FieldCoverage::Record(const Message& good, const Message& spoilt) {
  Differences(good, spoilt, &spoilt_);
}

std::set<std::string> FieldCoverage::Forgotten(const Descriptor& request) const {
  std::set<std::string> types, fields, forgotten;
  FieldsOf(request, &types, &fields);
  std::set_difference(fields.begin(), fields.end(), spoilt_.begin(), spoilt_.end(),
                      std::inserter(forgotten, forgotten.end()));
  return forgotten;
}

}  // namespace dreamstate::testing
