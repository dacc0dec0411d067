// How a connection ends, and what is said about it.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "session/connection_impl.h"

namespace ravine::session {
namespace {

constexpr std::uint64_t kCryptoError = 0x100;  // RFC 9000 §20.1: 0x100 + TLS alert
constexpr std::size_t kMaxReasonText =
    256;  // bytes of the peer's reason phrase that we keep, and of ours that we send
constexpr std::size_t kClosePacketSize = 1200;  // RFC 9000 §14: fits every path

std::string printable(ByteView text) {
  std::string out;
  for (const std::uint8_t byte : text.first(std::min(text.size(), kMaxReasonText))) {
    out.push_back(byte >= 0x20 && byte < 0x7f ? static_cast<char>(byte) : '?');
  }
  return out;
}

std::string describe_transport_code(std::uint64_t code) {
  if (code >= kCryptoError && code < kCryptoError + 256) {
    return "TLS alert " + describe_alert(static_cast<std::uint8_t>(code - kCryptoError));
  }
  return fmt::format("QUIC error {:#x}", code);
}

}  // namespace

ReadOutcome Connection::Impl::handle_read_status(int status) {
  for (const StopScanner::Stop& stop : scanner.found()) {
    if (status != 0) break;
    count_reset();
    streams.on_stopped(stop.stream, stop.code);
  }
  scanner.found().clear();
  if (status == 0 && reset_flood) {
    close_for(AppError::limit, "too many stream resets per second", CloseCause::local_application);
    return ReadOutcome::failed;
  }
  if (status == 0) {
    if (release_wanted && may_free_tls()) tls.free();
    return ReadOutcome::ok;
  }
  if (status == NGTCP2_ERR_DROP_CONN || status == NGTCP2_ERR_RETRY) return ReadOutcome::dropped;
  if (status == NGTCP2_ERR_DRAINING) {
    peer_closed = true;
    note_remote_close();
    return ReadOutcome::draining;
  }
  fail(status);
  return ReadOutcome::failed;
}

void Connection::Impl::note_remote_close() {
  if (got_reset) {
    end({CloseCause::stateless_reset, 0,
         "the peer lost this session (stateless reset), probably by a restart"});
    return;
  }
  const ngtcp2_ccerr* told = ngtcp2_conn_get_ccerr(connection.get());
  const std::string text = printable({told->reason, told->reasonlen});
  if (told->type == NGTCP2_CCERR_TYPE_APPLICATION) {
    end({CloseCause::remote_application, told->error_code,
         text.empty() ? "the peer closed the session" : text});
    return;
  }
  std::string what = "the peer ended the session: " + describe_transport_code(told->error_code);
  if (!text.empty()) what += ": " + text;
  end({CloseCause::remote_transport, told->error_code, std::move(what)});
}

void Connection::Impl::fail(int status) {
  if (closed) return;
  if (status == NGTCP2_ERR_IDLE_CLOSE) {
    peer_closed = true;  // nothing is sent: the peer has forgotten us as well
    end({CloseCause::idle_timeout, 0, "nothing came from the peer within the idle timeout"});
    return;
  }
  if (status == NGTCP2_ERR_HANDSHAKE_TIMEOUT) {
    ngtcp2_ccerr_set_liberr(&error, status, nullptr, 0);
    end({CloseCause::handshake_timeout, 0,
         "the peer did not complete the handshake in time; is it up and is UDP allowed on the way?"});
    return;
  }
  if (const identity::Rejection* rejection = tls.rejection()) {
    const auto alert = static_cast<std::uint8_t>(rejection->alert);
    ngtcp2_ccerr_set_tls_alert(&error, alert, nullptr, 0);
    end({CloseCause::verify_refused, kCryptoError + alert, rejection->reason});
    return;
  }
  if (status == NGTCP2_ERR_CRYPTO) {
    const std::uint8_t alert = ngtcp2_conn_get_tls_alert(connection.get());
    ngtcp2_ccerr_set_tls_alert(&error, alert, nullptr, 0);
    end({CloseCause::local_transport, kCryptoError + alert,
         "the TLS handshake with the peer failed: TLS alert " + describe_alert(alert)});
    return;
  }
  ngtcp2_ccerr_set_liberr(&error, status, nullptr, 0);
  end({CloseCause::local_transport, error.error_code,
       fmt::format("the peer broke the QUIC protocol or the engine failed: {}", ngtcp2_strerror(status))});
}

void Connection::Impl::close_for(AppError code, std::string text, CloseCause cause) {
  error_text = text.substr(0, kMaxReasonText);
  const auto* phrase = reinterpret_cast<const std::uint8_t*>(error_text.data());
  ngtcp2_ccerr_set_application_error(&error, static_cast<std::uint64_t>(code), phrase, error_text.size());
  end({cause, static_cast<std::uint64_t>(code), std::move(text)});
}

void Connection::Impl::end(CloseReason why) {
  if (closed) return;
  closed = true;
  reason = std::move(why);
  // What the application sees on each stream: the peer's or our own application error, else "internal".
  const bool application =
      reason.cause == CloseCause::local_application || reason.cause == CloseCause::remote_application;
  streams.close_all(application ? reason.code : static_cast<std::uint64_t>(AppError::internal));
}

std::optional<OutgoingPacket> Connection::Impl::write_close(Instant now, MutableBytes space) {
  const ngtcp2_tstamp at = tick(now);
  if (!closed || peer_closed || space.size() < kClosePacketSize) return std::nullopt;
  if (close_packet.empty()) {
    const ngtcp2_ssize written = ngtcp2_conn_write_connection_close(
        connection.get(), &write_path.path, &write_info, space.data(), kClosePacketSize, &error, at);
    if (written <= 0) return std::nullopt;
    close_packet.assign(space.data(), space.data() + written);
    last_write_path = synthetic_path_of(write_path.path, options.role);
  } else {
    std::memcpy(space.data(), close_packet.data(), close_packet.size());
  }
  return OutgoingPacket{space.data(), static_cast<std::uint32_t>(close_packet.size()), 0, last_write_path};
}

}  // namespace ravine::session
