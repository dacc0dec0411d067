// Which coders there are, by name, and which one two gateways use. Pure.
#pragma once

#include <string>

#include "gateway/coder/coder.h"
#include "gateway/coder/shipped.h"

namespace ravine::gateway::coder {

// Best first.
inline constexpr std::array<std::string_view, 5> kCoderNames{"model", "zstd", "cbor-deflate", "cbor", "none"};

// Errors: invalid_argument for a name that is not in kCoderNames. `deflate_dictionary` is for cbor-deflate;
// empty: the built-in one. Both ends need the same.
Result<std::unique_ptr<Coder>> make_coder(std::string_view name, const Model& model,
                                          ByteView deflate_dictionary = {});

// The first of the near gateway's coders that the far one has too; both lists are best first. nullopt: none.
std::optional<CoderId> choose_common(std::span<const CoderId> near, std::span<const CoderId> far);

// The dictionary that coap-proxy makes of its folder of maps: the strings of its JSON lists one after the
// other, then the lines of extra_flate_data, unquoted where they are quoted.
// `lists`: contents of event_types.json, common_keys.json, error_codes.json and edu_types.json, in that
// order.
Result<Bytes> dictionary_of_maps(std::span<const std::string> lists, std::string_view extra);

}  // namespace ravine::gateway::coder
