#include "gateway/coder/choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>

#include "gateway/cbor/json_cbor.h"

namespace ravine::gateway::coder {
namespace {

constexpr std::size_t kDeflateWindow = std::size_t{32} << 10;

// Bodies of the model's dictionary in CBOR, the first ones, which are the most common, last: deflate codes
// what is near in fewer bits.
Bytes built_in_dictionary(const Prior& prior) {
  std::vector<Bytes> items;
  std::size_t size = 0;
  std::string_view rest = as_text(prior.dictionary);
  while (!rest.empty() && size < kDeflateWindow) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    if (auto item = cbor::exact_cbor_of_json(as_bytes(rest.substr(0, end)))) {
      size += item->size();
      items.push_back(std::move(*item));
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  Bytes dictionary;
  for (auto item = items.rbegin(); item != items.rend(); ++item)
    dictionary.insert(dictionary.end(), item->begin(), item->end());
  return dictionary;
}

// A line as it is, or what stands between its quotes.
std::string unquoted(std::string_view line) {
  while (!line.empty() && (line.front() == ' ' || line.front() == '\t')) line.remove_prefix(1);
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r'))
    line.remove_suffix(1);
  boost::system::error_code error;
  const boost::json::value value = boost::json::parse(line, error);
  if (!error && value.is_string()) return std::string(std::string_view(value.get_string()));
  return std::string(line);
}

}  // namespace

Result<std::unique_ptr<Coder>> make_coder(std::string_view name, const Model& model,
                                          ByteView deflate_dictionary) {
  if (name == "model") return make_model_coder(model.prior, model.id);
  if (name == "zstd") return make_zstd_coder(model.prior->dictionary);
  if (name == "cbor-deflate")
    return make_cbor_deflate_coder(deflate_dictionary.empty() ? built_in_dictionary(*model.prior)
                                                              : to_bytes(deflate_dictionary));
  if (name == "cbor") return make_cbor_coder();
  if (name == "none") return make_none_coder();
  return Error{ErrorKind::invalid_argument,
               fmt::format("no coder named {}: there are {}", name, fmt::join(kCoderNames, ", "))};
}

std::optional<CoderId> choose_common(std::span<const CoderId> near, std::span<const CoderId> far) {
  for (const CoderId& id : near) {
    if (std::find(far.begin(), far.end(), id) != far.end()) return id;
  }
  return std::nullopt;
}

Result<Bytes> dictionary_of_maps(std::span<const std::string> lists, std::string_view extra) {
  Bytes dictionary;
  const auto add = [&](std::string_view text) {
    dictionary.insert(dictionary.end(), text.begin(), text.end());
  };
  for (std::size_t i = 0; i < lists.size(); ++i) {
    boost::system::error_code error;
    const boost::json::value list = boost::json::parse(lists[i], error);
    const bool strings = !error && list.is_array() &&
                         std::all_of(list.get_array().begin(), list.get_array().end(),
                                     [](const boost::json::value& value) { return value.is_string(); });
    if (!strings)
      return Error{ErrorKind::invalid_argument,
                   fmt::format("map {} of the folder is not a JSON array of strings", i + 1)};
    for (const boost::json::value& value : list.get_array()) add(value.get_string());
  }
  while (!extra.empty()) {
    const std::size_t end = std::min(extra.find('\n'), extra.size());
    add(unquoted(extra.substr(0, end)));
    extra.remove_prefix(std::min(end + 1, extra.size()));
  }
  return dictionary;
}

}  // namespace ravine::gateway::coder
