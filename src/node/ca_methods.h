// The authority's operations as control methods ("ca.issue", …), so that the running node and `ravine ca`
// without a node do the same thing. Parameters and results are JSON; docs/configuration.md does not describe
// them, `ravine ca --help` does.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "node/ca_store.h"

namespace ravine::node {

// "ca.issue" {name, groups, lifetime_s, csr_pem | out} → {chain_pem, …}; "ca.list"; "ca.show"; "ca.renew"
// {name?}; "ca.revoke" {which} → {number}; "ca.groups" {name, groups}; "ca.rotate-root" {passphrase,
// new_passphrase}; "ca.rotate-issuer" {passphrase}. Errors: invalid_argument for an unknown method or missing
// parameter, and those of CaStore.
Result<boost::json::object> call_ca(CaStore& ca, std::string_view method, const boost::json::object& params,
                                    UnixTime now, RandomSource& random);
const std::vector<std::string_view>& ca_method_names();
// Whether memberships and the endpoint have to be told after it succeeded.
bool ca_method_changes_members(std::string_view method);

boost::json::object certificate_to_json(const identity::Certificate& certificate);

// Parameters of control calls. Each names the parameter in its error.
Result<std::string> text_param(const boost::json::object& params, std::string_view key);
std::string text_param_or(const boost::json::object& params, std::string_view key,
                          std::string_view otherwise);
Result<std::vector<std::string>> texts_param(const boost::json::object& params, std::string_view key);
Result<std::int64_t> number_param(const boost::json::object& params, std::string_view key,
                                  std::int64_t minimum, std::int64_t maximum);
bool flag_param(const boost::json::object& params, std::string_view key);

}  // namespace ravine::node
