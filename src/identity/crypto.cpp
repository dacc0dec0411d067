#include "identity/crypto.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

namespace ravine::identity {

Digest sha256(ByteView data) {
  Digest digest;
  ensure(gnutls_hash_fast(GNUTLS_DIG_SHA256, data.data(), data.size(), digest.data()) == 0);
  return digest;
}

Digest hmac_sha256(ByteView key, ByteView data) {
  Digest digest;
  ensure(gnutls_hmac_fast(GNUTLS_MAC_SHA256, key.data(), key.size(), data.data(), data.size(),
                          digest.data()) == 0);
  return digest;
}

Digest derive(ByteView key, std::string_view purpose, ByteView data) {
  Bytes message = to_bytes(as_bytes(purpose));
  message.push_back(0);
  message.insert(message.end(), data.begin(), data.end());
  const Digest digest = hmac_sha256(key, message);
  wipe(message);
  return digest;
}

}  // namespace ravine::identity
