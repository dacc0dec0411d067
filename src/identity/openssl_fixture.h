// Made by the openssl command (3.0), so that what Ravine reads is not only what Ravine writes: a root, an
// intermediate under it, and a leaf "web" in the groups ops and web; a certificate of another algorithm; one
// with an unknown critical extension; the leaf's signing request; its key, plain and with the passphrase
// "correct-horse".
#pragma once

#include <string_view>

#include "base/time.h"

namespace ravine::identity::fixture {

inline constexpr std::string_view kRoot = R"(-----BEGIN CERTIFICATE-----
MIIBZzCCARmgAwIBAgIUaiSkBdosnyP0MBi85woTBsqcyScwBQYDK2VwMCExEDAO
BgNVBAoMB0V4YW1wbGUxDTALBgNVBAMMBGhvbWUwHhcNMjYxMTIwMDY1MTQ2WhcN
MzYxMTE3MDY1MTQ2WjAhMRAwDgYDVQQKDAdFeGFtcGxlMQ0wCwYDVQQDDARob21l
MCowBQYDK2VwAyEAUnLfd59Fs/ge4pjLMbC8rh+JDoCo8IQxlgwne3ZC2xOjYzBh
MB8GA1UdIwQYMBaAFLeBrpXckxTBS232FV+UF2U92/SaMA8GA1UdEwEB/wQFMAMB
Af8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBS3ga6V3JMUwUtt9hVflBdlPdv0
mjAFBgMrZXADQQDDJPRLFExN7nYkRz31U6a7Ysh8hKgv3hSnPBRaF7Xxi97kg1zX
AVnqzKY4M8yAxuGHXHhw/L56F127I7rqK38O
-----END CERTIFICATE-----
)";

inline constexpr std::string_view kIntermediate = R"(-----BEGIN CERTIFICATE-----
MIIBXzCCARGgAwIBAgIUQAqdvFbxdEFxcEUdJYGJULlLLG4wBQYDK2VwMCExEDAO
BgNVBAoMB0V4YW1wbGUxDTALBgNVBAMMBGhvbWUwHhcNMjYxMTIwMDY1MTQ2WhcN
MjkwODE2MDY1MTQ2WjAWMRQwEgYDVQQDDAtob21lIGlzc3VlcjAqMAUGAytlcAMh
AGIvUXMVGKNbj1QhLck6M2EqdMpyFqQacIWKe2kIbOSMo2YwZDASBgNVHRMBAf8E
CDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAdBgNVHQ4EFgQUITSTMu93u+MCbKWW
e+2Kordf158wHwYDVR0jBBgwFoAUt4GuldyTFMFLbfYVX5QXZT3b9JowBQYDK2Vw
A0EA2aMrTTLzWKbyyRfxzv6KLeSqweS1Lw2CbnElWwJRJ7QvU08wH+OnUBgzmov8
U9DEEq0FHw7ArkTY5lDHsdnpAw==
-----END CERTIFICATE-----
)";

inline constexpr std::string_view kLeaf = R"(-----BEGIN CERTIFICATE-----
MIIBsjCCAWSgAwIBAgIUOq6CuHj68hEzpxs1X9BVMtVR19YwBQYDK2VwMBYxFDAS
BgNVBAMMC2hvbWUgaXNzdWVyMB4XDTI2MTEyMDA2NTE0N1oXDTI2MTIyMDA2NTE0
N1owDjEMMAoGA1UEAwwDd2ViMCowBQYDK2VwAyEA9VyCP4wsc6TdwLAqejD63Die
stqdZul+Os81ua1d3VGjgcswgcgwDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMC
B4AwHQYDVR0lBBYwFAYIKwYBBQUHAwEGCCsGAQUFBwMCMB0GA1UdDgQWBBRQARaH
cDp+1cti1dcUfp2UWSsSTjAfBgNVHSMEGDAWgBQhNJMy73e74wJspZZ77Yqit1/X
nzBJBgNVHREEQjBAggh3ZWIuZnVzZYcQ/cxBNnDOIXlXAoYnkzfQvoYQcmF2aW5l
Omdyb3VwOm9wc4YQcmF2aW5lOmdyb3VwOndlYjAFBgMrZXADQQDIN/0s18nvr1k9
y6yoYaaHLa7clpOBxeYWZKsyfAuN3LWCHgvOkwyMCQg0wWUFqIDEspReGMbKw19W
ejGSZ0oG
-----END CERTIFICATE-----
)";

inline constexpr std::string_view kEc = R"(-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIUeMyYX/qHASnkcOVz3SkpSe9EU1cwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCZWMwHhcNMjYxMTIwMDY1MTQ3WhcNMzYxMTE3MDY1MTQ3WjAN
MQswCQYDVQQDDAJlYzBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFLhivl5ltk7
g5jw9r4FYaChQFNr72+fFvPUbSkkDQ4hPgsccn0WdKnBlDTkTf0dMgtr/J4/Vq2a
IyC4JykBonOjUzBRMB0GA1UdDgQWBBRloz/9bPk4Z0BugOerRFjaMu7v1zAfBgNV
HSMEGDAWgBRloz/9bPk4Z0BugOerRFjaMu7v1zAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0cAMEQCIAV8RB7Midz2YBMWg7eVs5icz4UBoVvUpn+YRaf4TWNw
AiBxggglIg/P9fFk/o1XV4PVtUyYNwAvc4L7rQ0ZwT2Tzg==
-----END CERTIFICATE-----
)";

inline constexpr std::string_view kCritical = R"(-----BEGIN CERTIFICATE-----
MIIBQjCB9aADAgECAhRvcWwsfLGPcjVzfK4VSGjpF/wPrTAFBgMrZXAwDzENMAsG
A1UEAwwEY3JpdDAeFw0yNjExMjAwNjUxNDdaFw0yNjEyMjAwNjUxNDdaMA8xDTAL
BgNVBAMMBGNyaXQwKjAFBgMrZXADIQD1XII/jCxzpN3AsCp6MPrcOJ6y2p1m6X46
zzW5rV3dUaNjMGEwHQYDVR0OBBYEFFABFodwOn7Vy2LV1xR+nZRZKxJOMB8GA1Ud
IwQYMBaAFFABFodwOn7Vy2LV1xR+nZRZKxJOMA8GA1UdEwEB/wQFMAMBAf8wDgYE
KgMEBQEB/wQDDAF4MAUGAytlcANBAAfDzQodAURqQ8/Xbp4Vn7y+T92K19HvgHUk
X18f7s26D3SfC+8CfVZae8Chk5v7hVASPAtLj/3sXgHr6D+mHwM=
-----END CERTIFICATE-----
)";

inline constexpr std::string_view kRequest = R"(-----BEGIN CERTIFICATE REQUEST-----
MIGNMEECAQAwDjEMMAoGA1UEAwwDd2ViMCowBQYDK2VwAyEA9VyCP4wsc6TdwLAq
ejD63DiestqdZul+Os81ua1d3VGgADAFBgMrZXADQQAUL6fWrUuIjCcDIrl19b24
vcGmJNGXdEp1RpKajKfSgOuVcWUGgb/gSHDBH9OcPqt8jSgCCvD3q7sS1U9+x+0L
-----END CERTIFICATE REQUEST-----
)";

inline constexpr std::string_view kKey = R"(-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEID/pZF4+I4tXf54ljvmh8tU2w37eVuZefUlM+znNsqf5
-----END PRIVATE KEY-----
)";

inline constexpr std::string_view kEncryptedKey = R"(-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAj4HgLM8dpUTAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEMbth7QC5iPt6SQi6itG/ukEQAWC
Wr+Rt07jts3cqI3ByzeoPhz/31Nt5Rhgglw5Px2pFClIcDS7t6s7Z1wBc3xG6TWS
PqjnB6p4cCo1TklY5Nc=
-----END ENCRYPTED PRIVATE KEY-----
)";

inline constexpr UnixTime kNotBefore{1795157507};  // of all of them; the leaf lasts 30 days
// As `openssl pkey -pubout -outform DER | sha256sum` and `openssl x509 -serial` print them.
inline constexpr std::string_view kRootHash =
    "413670ce1d26e961a8d747d00c1bca70d1eba3adb5d7b360dc10ccd3acf752c4";
inline constexpr std::string_view kLeafHash =
    "2179570286279337d0be1a42962f128fa2ab96336f9b5775982a1f96a6aa9b79";
inline constexpr std::string_view kLeafSerial = "3aae82b878faf21133a71b355fd05532d551d7d6";

}  // namespace ravine::identity::fixture
