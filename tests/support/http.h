// Sockets of this machine, for tests.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace dreamstate::testing {

inline sockaddr_in LoopbackAddress(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// A TCP port of 127.0.0.1 that nobody listened on a moment ago.
inline int FreePort() {
  const int bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = LoopbackAddress(0);
  socklen_t size = sizeof address;
  const bool found = bind(bound, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
                     getsockname(bound, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  close(bound);
  if (!found) throw std::runtime_error("no port of 127.0.0.1 is free");
  return ntohs(address.sin_port);
}

// The body of an HTTP GET from 127.0.0.1; empty when it fails.
inline std::string HttpGet(int port, const std::string& path) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = LoopbackAddress(port);
  std::string response;
  if (connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string request =
        "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (send(connection, request.data(), request.size(), MSG_NOSIGNAL) ==
        static_cast<ssize_t>(request.size())) {
      char buffer[16384];
      ssize_t bytes = 0;
      while ((bytes = recv(connection, buffer, sizeof buffer, 0)) > 0) {
        response.append(buffer, static_cast<size_t>(bytes));
      }
    }
  }
  close(connection);
  const size_t body = response.find("\r\n\r\n");
  return response.starts_with("HTTP/1.1 200") && body != std::string::npos
             ? response.substr(body + 4)
             : std::string();
}

}  // namespace dreamstate::testing
