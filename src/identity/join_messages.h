// What join.cpp and pair.cpp share: conversions between messages and values, proofs, answers.
#pragma once

#include <google/protobuf/message_lite.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "identity/join.h"
#include "join.pb.h"

namespace ravine::identity::messages {

inline constexpr std::size_t kExporterSize = 32;  // bytes of exported keying material
inline constexpr std::size_t kMaxMessageText = 512;

Bytes serialise(const google::protobuf::MessageLite& message);
// nullopt when malformed or larger than `limit`.
std::optional<join::Request> parse_request(ByteView bytes);
Result<join::Response> parse_response(
    ByteView bytes);  // refused with the other side's words when its status is not OK

// label ‖ 0 ‖ exporter ‖ SHA-256(content)
Bytes proof_input(std::string_view label, ByteView exporter, ByteView content);
// "ravine join answer" ‖ 0 ‖ exporter ‖ SHA-256(request) ‖ body
Bytes answer_input(ByteView exporter, ByteView request, ByteView body);

Bytes make_refusal(join::Response::Status status, std::string_view message);
join::Response::Status status_of(const Error& error);
Bytes make_signed_answer(const PrivateKey& key, ByteView exporter, ByteView request, ByteView body);

std::optional<PublicKey> public_key(std::string_view raw);
std::optional<PeerId> peer_id(std::string_view bytes);
std::optional<NetworkHash> network_hash(std::string_view bytes);

void write_chain(google::protobuf::RepeatedPtrField<std::string>& out, std::span<const Certificate> chain);
Result<std::vector<Certificate>> read_chain(const google::protobuf::RepeatedPtrField<std::string>& in,
                                            std::size_t limit);
void write_addresses(google::protobuf::RepeatedPtrField<join::Address>& out,
                     std::span<const HostPort> addresses);
std::vector<HostPort> read_addresses(const google::protobuf::RepeatedPtrField<join::Address>& in);
void write_secrets(google::protobuf::RepeatedPtrField<join::SecretVersion>& out,
                   const NetworkSecrets& secrets);
NetworkSecrets read_secrets(const google::protobuf::RepeatedPtrField<join::SecretVersion>& in);

}  // namespace ravine::identity::messages
