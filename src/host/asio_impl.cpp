// Boost.Asio's code, once for the whole program: BOOST_ASIO_SEPARATE_COMPILATION is defined for every user of
// host.
#include <boost/asio/impl/src.hpp>
