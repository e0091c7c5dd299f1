// The appearance of the page: light or dark on screens, light on paper.
#include "report/page.h"
#include "report/svg.h"

namespace lewis {
namespace {

constexpr std::string_view kLight =
    "--paper:#fdfdfb;--ink:#1c1d21;--muted:#676b74;--line:#e4e4e0;--soft:#f4f4f0;--accent:#d4480b;";
constexpr std::string_view kDark =
    "--paper:#17181b;--ink:#ececea;--muted:#9b9ea6;--line:#34363c;--soft:#1f2125;--accent:#ff8f5a;";

constexpr std::string_view kPage = R"(
*{box-sizing:border-box}
html{background:var(--paper);color:var(--ink);-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1100px;padding:56px 28px 96px;
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,Helvetica,Arial,sans-serif;
font-variant-numeric:tabular-nums}
h1{font-size:40px;line-height:1.1;letter-spacing:-.022em;font-weight:650;margin:6px 0 14px;overflow-wrap:anywhere}
h2{font-size:24px;line-height:1.25;letter-spacing:-.012em;font-weight:620;margin:64px 0 8px}
h3{font-size:16px;font-weight:620;margin:32px 0 2px}
p{margin:0 0 12px;max-width:68ch}
.eye{font-size:13px;color:var(--accent);font-weight:600;margin:0}
.lead{font-size:19px;line-height:1.5;max-width:60ch}
.note{color:var(--muted);font-size:14px;line-height:1.5}
dl.key{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:0 28px;margin:34px 0 0;
border-top:1px solid var(--line)}
dl.key div{display:flex;flex-direction:column-reverse;justify-content:flex-end;padding:14px 0 0}
dl.key dd{margin:0;font-size:27px;letter-spacing:-.015em;line-height:1.2}
dl.key dt{color:var(--muted);font-size:13px}
.maps{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,420px),1fr));gap:18px 36px;margin:14px 0 6px}
.maps>figure{margin:0;max-width:560px}
.plots>figure{max-width:420px}
.three,.plots{grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr))}
.maps>div{min-width:0}.maps>div h3{margin-top:18px}
svg{display:block;width:100%;height:auto;overflow:visible}
ul.said{list-style:none;margin:10px 0 0;padding:0;font-size:13.5px;line-height:1.5}
ul.said li{padding-left:22px;position:relative;margin:3px 0}
ul.said li::before{position:absolute;left:0;width:16px;text-align:center;content:"\2013";color:var(--muted)}
ul.said .up::before{content:"\25b2";color:var(--ink);font-size:10px;line-height:21px}
ul.said .down::before{content:"\25bc";color:var(--ink);font-size:10px;line-height:21px}
ul.said .no{color:var(--muted)}
.warn{border-left:3px solid var(--accent);background:var(--soft);padding:12px 18px;margin:28px 0 0;font-size:15px}
.quiet{border-color:var(--line);color:var(--muted);font-size:14px}
.warn ul{margin:4px 0 0;padding-left:18px}
details{margin:8px 0 0;font-size:14px}
summary{cursor:pointer;color:var(--muted);width:fit-content;padding:3px 0}
summary:hover{color:var(--ink)}
.scroll{overflow-x:auto;margin:6px 0 12px}
table{border-collapse:collapse;font-size:13px;line-height:1.45}
th,td{padding:3px 12px 3px 0;text-align:right;font-weight:400;white-space:nowrap;vertical-align:top}
thead th{color:var(--muted);border-bottom:1px solid var(--line)}
th:first-child,.l{text-align:left}
tbody th{color:var(--muted)}
caption{text-align:left;font-weight:620;padding:8px 0 2px}
table.totals{font-size:14px}table.totals th,table.totals td{padding:5px 20px 5px 0}table.totals tbody th{color:var(--ink);font-weight:620}
table.facts th{padding-right:28px;color:var(--muted)}
table.facts td{text-align:left;white-space:normal;overflow-wrap:anywhere}
code,pre,.code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:12.5px}
td.code,.name{overflow-wrap:anywhere;white-space:normal;min-width:16em}
pre{background:var(--soft);padding:16px 18px;overflow-x:auto;line-height:1.5;margin:8px 0}
.bar{margin:16px 0 6px}
footer{margin-top:80px;padding-top:16px;border-top:1px solid var(--line)}
@media (max-width:640px){body{padding:32px 16px 64px}h1{font-size:30px}h2{margin-top:52px}table.totals th,table.totals td{padding-right:14px}.lead{font-size:17px}
dl.key dd{font-size:22px}}
)";

constexpr std::string_view kPrint = R"(
@page{margin:16mm}
html{background:#fff}
body{max-width:none;padding:0;font-size:10pt}
h1{font-size:24pt}h2{font-size:15pt;margin-top:22pt}.lead{font-size:12pt}.note,ul.said{font-size:8.5pt}
dl.key{grid-template-columns:repeat(5,1fr)}dl.key dd{font-size:16pt}
figure,tr,dl.key,.warn,ul.said li,.measure{break-inside:avoid}h2,h3{break-after:avoid}
.maps{grid-template-columns:repeat(2,1fr);gap:10pt 18pt}.three,.plots{grid-template-columns:repeat(3,1fr)}
.scroll{overflow:visible}table,table.totals{font-size:8.5pt}code,pre,.code{font-size:8pt}table.totals th,table.totals td{padding-right:8pt}
details:not([open]){display:none}
)";

}  // namespace

std::string page_style() {
  std::string style = ":root{color-scheme:light dark;" + std::string(kLight) + "}";
  style += std::string(kPage) + chart_style(false);
  style += "@media screen and (prefers-color-scheme:dark){:root{" + std::string(kDark) + "}" +
           chart_style(true) + "}";
  return style + "@media print{:root{color-scheme:light}" + std::string(kPrint) + "}";
}

}  // namespace lewis
