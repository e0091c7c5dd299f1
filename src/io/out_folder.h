// The folder that a model is written to, and OUT.partial beside it: what may be replaced or
// removed, and how. Nothing here follows a link into a deletion.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

namespace lewis {

// Tells an OUT.partial of lewis from anything else. It is locked while somebody writes there.
inline constexpr std::string_view kPartialMarker = ".lewis-partial";
// The folder in OUT.partial of workers that write it together (io/parts_folder.h).
inline constexpr std::string_view kPartsFolder = ".lewis-parts";

// OUT without a '/' at its end, absolute, with the links of the folders above it resolved. OUT
// itself may be a link.
std::filesystem::path resolved_out(const std::filesystem::path& out);

// Refuses, with Error(kUsage), an OUT that is a source, lies inside one, or holds one; links and
// ".." are resolved first.
void refuse_out_in_sources(const std::filesystem::path& out,
                           std::span<const std::filesystem::path> sources);

// Refuses an OUT that exists unless `force`. Even with it, what is replaced must be an empty folder
// or a model: it has the manifest of lewis, or a config.json and weights, and besides only files
// that its manifest names or that belong to models. Error(kUsage) that names what is there.
void refuse_existing_out(const std::filesystem::path& out, bool force);

// Refuses, with Error(kUsage), an OUT.partial that exists and was not left by lewis: it is no
// folder, or has neither the marker, nor the journal of a merge, nor a manifest.
void refuse_partial_of_others(const std::filesystem::path& partial);

// Removes a folder that has the marker. The marker goes last, so that what a crash leaves is still
// known as ours.
void remove_partial(const std::filesystem::path& partial);
// The same without errors, if it is there.
void remove_quietly(const std::filesystem::path& partial);

// Error(kResource) when a folder's disk has not so many bytes left. `out` is its name in the
// message.
void check_disk_space(const std::filesystem::path& folder, const std::filesystem::path& out,
                      uint64_t needed);

// Gives OUT, which exists, the content of `fresh`, a folder beside it: in one step where the file
// system can, else through a third name. What was in OUT is removed.
void replace_folder(const std::filesystem::path& fresh, const std::filesystem::path& out);

}  // namespace lewis
