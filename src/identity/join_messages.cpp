#include "identity/join_messages.h"

#include <fmt/format.h>

#include <algorithm>

namespace ravine::identity::messages {
namespace {

constexpr std::size_t kMaxHost = 253;

std::string_view raw_text(ByteView bytes) {
  return as_text(bytes);
}

}  // namespace

Bytes serialise(const google::protobuf::MessageLite& message) {
  Bytes bytes(message.ByteSizeLong());
  ensure(message.SerializeToArray(bytes.data(), static_cast<int>(bytes.size())));
  return bytes;
}

std::optional<join::Request> parse_request(ByteView bytes) {
  join::Request request;
  if (bytes.size() > kMaxJoinRequest || !request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return std::nullopt;
  return request;
}

Result<join::Response> parse_response(ByteView bytes) {
  join::Response response;
  if (bytes.size() > kMaxJoinResponse ||
      !response.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      response.status() == join::Response::UNSPECIFIED)
    return Error{ErrorKind::invalid_argument,
                 "the answer is malformed or empty; is the other side of a newer version?"};
  if (response.status() == join::Response::OK) return response;
  std::string text = response.message().substr(0, kMaxMessageText);
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  const ErrorKind kind = response.status() == join::Response::NAME_TAKEN  ? ErrorKind::already_exists
                         : response.status() == join::Response::TRY_LATER ? ErrorKind::limit_reached
                                                                          : ErrorKind::refused;
  return Error{kind, fmt::format("the other side refused: {}", text)};
}

Bytes proof_input(std::string_view label, ByteView exporter, ByteView content) {
  ByteWriter writer;
  writer.write(as_bytes(label));
  writer.write_u8(0);
  writer.write(exporter);
  writer.write(sha256(content));
  return writer.take();
}

Bytes answer_input(ByteView exporter, ByteView request, ByteView body) {
  Bytes input = proof_input("ravine join answer", exporter, request);
  input.insert(input.end(), body.begin(), body.end());
  return input;
}

Bytes make_refusal(join::Response::Status status, std::string_view message) {
  join::Response response;
  response.set_status(status);
  response.set_message(std::string(message.substr(0, kMaxMessageText)));
  return serialise(response);
}

join::Response::Status status_of(const Error& error) {
  switch (error.kind) {
    case ErrorKind::already_exists:
      return join::Response::NAME_TAKEN;
    case ErrorKind::limit_reached:
      return join::Response::TRY_LATER;
    case ErrorKind::invalid_argument:
    case ErrorKind::unauthenticated:
      return join::Response::MALFORMED;
    default:
      return join::Response::REFUSED;
  }
}

Bytes make_signed_answer(const PrivateKey& key, ByteView exporter, ByteView request, ByteView body) {
  join::Response response;
  response.set_status(join::Response::OK);
  response.set_body(std::string(raw_text(body)));
  response.set_signature(std::string(raw_text(key.sign(answer_input(exporter, request, body)))));
  return serialise(response);
}

std::optional<PublicKey> public_key(std::string_view raw) {
  std::array<std::uint8_t, 32> bytes;
  if (raw.size() != bytes.size()) return std::nullopt;
  std::copy(raw.begin(), raw.end(), bytes.begin());
  return PublicKey(bytes);
}

std::optional<PeerId> peer_id(std::string_view bytes) {
  PeerId id;
  if (bytes.size() != id.bytes.size()) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), id.bytes.begin());
  return id;
}

std::optional<NetworkHash> network_hash(std::string_view bytes) {
  const auto id = peer_id(bytes);
  if (!id) return std::nullopt;
  return NetworkHash{id->bytes};
}

void write_chain(google::protobuf::RepeatedPtrField<std::string>& out, std::span<const Certificate> chain) {
  for (const Certificate& certificate : chain) *out.Add() = as_text(certificate.der);
}

Result<std::vector<Certificate>> read_chain(const google::protobuf::RepeatedPtrField<std::string>& in,
                                            std::size_t limit) {
  if (static_cast<std::size_t>(in.size()) > limit)
    return Error{ErrorKind::limit_reached, fmt::format("more than {} certificates", limit)};
  std::vector<Certificate> chain;
  for (const std::string& der : in) {
    Result<Certificate> certificate = Certificate::parse(as_bytes(der));
    if (!certificate) return certificate.error();
    chain.push_back(std::move(*certificate));
  }
  return chain;
}

void write_addresses(google::protobuf::RepeatedPtrField<join::Address>& out,
                     std::span<const HostPort> addresses) {
  for (const HostPort& address : addresses.first(std::min(addresses.size(), kMaxInviteAddresses))) {
    join::Address& item = *out.Add();
    item.set_host(address.host);
    item.set_port(address.port);
  }
}

std::vector<HostPort> read_addresses(const google::protobuf::RepeatedPtrField<join::Address>& in) {
  std::vector<HostPort> addresses;
  for (const join::Address& item : in) {
    const std::string& host = item.host();
    const auto visible = [](char c) { return c > 0x20 && c < 0x7f; };
    if (host.empty() || host.size() > kMaxHost || !std::all_of(host.begin(), host.end(), visible)) continue;
    if (item.port() == 0 || item.port() > 65535 || addresses.size() == kMaxInviteAddresses) continue;
    addresses.push_back({host, static_cast<std::uint16_t>(item.port())});
  }
  return addresses;
}

void write_secrets(google::protobuf::RepeatedPtrField<join::SecretVersion>& out,
                   const NetworkSecrets& secrets) {
  for (const NetworkSecret& secret : secrets.all()) {
    join::SecretVersion& item = *out.Add();
    item.set_version(secret.version);
    item.set_secret(std::string(as_text(secret.secret.view())));
  }
}

NetworkSecrets read_secrets(const google::protobuf::RepeatedPtrField<join::SecretVersion>& in) {
  NetworkSecrets secrets;
  for (const join::SecretVersion& item : in)
    if (item.secret().size() == 32)
      secrets.add({item.version(), Secret<32>::copy_of(as_bytes(item.secret()))});
  return secrets;
}

}  // namespace ravine::identity::messages
