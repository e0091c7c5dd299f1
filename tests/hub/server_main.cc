// lewis_hub_server FOLDER [BYTES_PER_SECOND]: serves FOLDER/OWNER/NAME/... as models of a hub on
// 127.0.0.1, prints its address, and ends when its standard input does. Files of safetensors and
// those of more than 10 kB are large ones.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "hub/hub_server.h"

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  if (argc < 2) return 2;
  lewis::HubServer server;
  if (argc > 2) server.bytes_per_second = std::atof(argv[2]);
  for (const auto& entry : fs::recursive_directory_iterator(argv[1])) {
    if (!entry.is_regular_file()) continue;
    const fs::path path = entry.path().lexically_relative(argv[1]);
    auto part = path.begin();
    const std::string owner = part++->string(), name = part++->string();
    fs::path rest;
    for (; part != path.end(); ++part) rest /= *part;
    std::ifstream in(entry.path(), std::ios::binary);
    lewis::ServedFile file{{std::istreambuf_iterator<char>(in), {}}, false};
    file.large = path.extension() == ".safetensors" || file.content.size() > 10'000;
    server.models[owner + "/" + name].files[rest.string()] = std::move(file);
  }
  std::printf("%s\n", server.address().c_str());
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
}
