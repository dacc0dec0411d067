#include "node/ca_methods.h"

#include <fmt/format.h>

#include <algorithm>

namespace ravine::node {

namespace json = boost::json;
using identity::Certificate;

Result<std::string> text_param(const json::object& params, std::string_view key) {
  const auto* value = params.if_contains(key);
  const auto* text = value != nullptr ? value->if_string() : nullptr;
  if (text == nullptr || text->empty()) {
    return Error{ErrorKind::invalid_argument, fmt::format("the parameter \"{}\" is missing or no text", key)};
  }
  return std::string(*text);
}

std::string text_param_or(const json::object& params, std::string_view key, std::string_view otherwise) {
  const auto* value = params.if_contains(key);
  const auto* text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr && !text->empty() ? std::string(*text) : std::string(otherwise);
}

Result<std::vector<std::string>> texts_param(const json::object& params, std::string_view key) {
  std::vector<std::string> out;
  const auto* value = params.if_contains(key);
  if (value == nullptr || value->is_null()) return out;
  const auto* list = value->if_array();
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const auto* text = (*list)[i].if_string();
    if (text == nullptr) list = nullptr;
    if (text != nullptr) out.emplace_back(*text);
  }
  if (list == nullptr) {
    return Error{ErrorKind::invalid_argument,
                 fmt::format("the parameter \"{}\" has to be an array of texts", key)};
  }
  return out;
}

Result<std::int64_t> number_param(const json::object& params, std::string_view key, std::int64_t minimum,
                                  std::int64_t maximum) {
  const auto* value = params.if_contains(key);
  std::optional<std::int64_t> number;
  if (value != nullptr && value->is_int64()) number = value->get_int64();
  if (value != nullptr && value->is_uint64() && value->get_uint64() <= INT64_MAX) {
    number = static_cast<std::int64_t>(value->get_uint64());
  }
  if (!number || *number < minimum || *number > maximum) {
    return Error{
        ErrorKind::invalid_argument,
        fmt::format("the parameter \"{}\" has to be a whole number from {} to {}", key, minimum, maximum)};
  }
  return *number;
}

bool flag_param(const json::object& params, std::string_view key) {
  const auto* value = params.if_contains(key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

json::object certificate_to_json(const Certificate& certificate) {
  return {{"name", certificate.name.empty() ? certificate.common_name : certificate.name},
          {"id", certificate.id.to_text()},
          {"serial", identity::serial_to_text(certificate.serial)},
          {"is_ca", certificate.is_ca},
          {"address", certificate.overlay ? certificate.overlay->to_text() : ""},
          {"groups", json::array(certificate.groups.begin(), certificate.groups.end())},
          {"not_before_unix", certificate.not_before.seconds},
          {"not_after_unix", certificate.not_after.seconds}};
}

namespace {

Result<json::object> issue(CaStore& ca, const json::object& params, UnixTime now, RandomSource& random) {
  auto name = text_param(params, "name");
  if (!name) return name.error();
  auto groups = texts_param(params, "groups");
  if (!groups) return groups.error();
  identity::IssueOptions options{.name = *name, .groups = std::move(*groups)};
  if (params.contains("lifetime_s")) {
    auto seconds =
        number_param(params, "lifetime_s", 10, std::chrono::seconds(identity::kIntermediateLifetime).count());
    if (!seconds) return seconds.error();
    options.lifetime = std::chrono::seconds(*seconds);
  }
  if (params.contains("csr_pem")) {
    auto pem = text_param(params, "csr_pem");
    if (!pem) return pem.error();
    auto der = identity::SigningRequest::der_from_pem(*pem);
    if (!der) return der.error();
    auto chain = ca.issue(*der, options, now, random);
    if (!chain) return chain.error();
    return json::object{{"certificate", certificate_to_json(chain->front())},
                        {"chain_pem", identity::to_pem(*chain)}};
  }
  auto out = text_param(params, "out");
  if (!out) return out.error();
  if (auto issued = ca.issue_to(*out, options, now, random); !issued) return issued.error();
  const auto& entry = ca.authority().issued().back();
  return json::object{{"name", entry.name},
                      {"id", entry.id.to_text()},
                      {"out", *out},
                      {"not_after_unix", entry.not_after.seconds}};
}

json::object list(CaStore& ca, UnixTime now) {
  json::array certificates;
  for (const identity::IssuedEntry& entry : ca.authority().issued()) {
    const char* state = entry.revoked           ? "revoked"
                        : entry.superseded      ? "replaced"
                        : entry.not_after < now ? "expired"
                                                : "valid";
    json::object row{{"name", entry.name},
                     {"id", entry.id.to_text()},
                     {"serial", identity::serial_to_text(entry.serial)},
                     {"groups", json::array(entry.groups.begin(), entry.groups.end())},
                     {"is_ca", entry.is_ca},
                     {"state", state},
                     {"not_before_unix", entry.not_before.seconds},
                     {"not_after_unix", entry.not_after.seconds}};
    if (entry.revoked) row["revoked_unix"] = entry.revoked->seconds;
    certificates.push_back(std::move(row));
  }
  return {{"certificates", std::move(certificates)}};
}

json::object show(CaStore& ca) {
  const auto& trust = ca.authority().trust();
  json::array roots;
  for (const Certificate& root : trust.roots()) roots.push_back(certificate_to_json(root));
  return {{"network", ca.network_name()},
          {"network_hash", encode_hex(trust.network().view())},
          {"prefix", identity::overlay_prefix(trust.network()).to_text() + "/48"},
          {"roots", std::move(roots)},
          {"issuer", certificate_to_json(ca.authority().issuer())},
          {"issued", ca.authority().issued().size()},
          {"revocation_number", trust.revocations().number()},
          {"revoked", trust.revocations().size()},
          {"leaf_lifetime_s", ca.authority().leaf_lifetime().count()},
          {"renew_after_s", (ca.authority().leaf_lifetime() * 2 / 3).count()},
          {"grace_s", trust.options().grace.count()},
          {"directory", ca.member_directory()}};
}

Result<json::object> set_groups(CaStore& ca, const json::object& params) {
  auto name = text_param(params, "name");
  if (!name) return name.error();
  auto groups = texts_param(params, "groups");
  if (!groups) return groups.error();
  if (auto set = ca.authority().set_groups(*name, std::move(*groups)); !set) return set.error();
  if (auto saved = ca.save_register(); !saved) return saved.error();
  return json::object{{"name", *name}};
}

}  // namespace

const std::vector<std::string_view>& ca_method_names() {
  static const std::vector<std::string_view> kNames{"ca.issue",    "ca.list",        "ca.show",
                                                    "ca.renew",    "ca.revoke",      "ca.groups",
                                                    "ca.lifetime", "ca.rotate-root", "ca.rotate-issuer"};
  return kNames;
}

bool ca_method_changes_members(std::string_view method) {
  return method == "ca.renew" || method == "ca.revoke" || method == "ca.rotate-root" ||
         method == "ca.rotate-issuer";
}

Result<json::object> call_ca(CaStore& ca, std::string_view method, const json::object& params, UnixTime now,
                             RandomSource& random) {
  if (method == "ca.issue") return issue(ca, params, now, random);
  if (method == "ca.list") return list(ca, now);
  if (method == "ca.show") return show(ca);
  if (method == "ca.groups") return set_groups(ca, params);
  if (method == "ca.lifetime") {
    auto seconds =
        number_param(params, "lifetime_s", 10, std::chrono::seconds(identity::kIntermediateLifetime).count());
    if (!seconds) return seconds.error();
    if (auto set = ca.set_lifetime(std::chrono::seconds(*seconds)); !set) return set.error();
    return show(ca);
  }
  if (method == "ca.renew") {
    if (auto renewed = ca.renew_own(now, random); !renewed) return renewed.error();
    return json::object{{"directory", ca.member_directory()}};
  }
  if (method == "ca.revoke") {
    auto which = text_param(params, "which");
    if (!which) return which.error();
    auto list_made = ca.revoke(*which, now, random);
    if (!list_made) return list_made.error();
    return json::object{{"number", list_made->number()}, {"entries", list_made->size()}};
  }
  if (method == "ca.rotate-root") {
    auto rotated = ca.rotate_root(text_param_or(params, "passphrase", ""),
                                  text_param_or(params, "new_passphrase", ""), now, random);
    if (!rotated) return rotated.error();
    return show(ca);
  }
  if (method == "ca.rotate-issuer") {
    if (auto made = ca.rotate_issuer(text_param_or(params, "passphrase", ""), now, random); !made)
      return made.error();
    return show(ca);
  }
  return Error{ErrorKind::invalid_argument, fmt::format("\"{}\" is no operation of an authority", method)};
}

}  // namespace ravine::node
