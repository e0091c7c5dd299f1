#include "eval/answers/language.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <vector>

#include "eval/answers/english_text.h"
#include "text/regex.h"

namespace lewis {
namespace {

struct Script {
  std::string_view name, letters;  // a class of the regular expressions
  std::string_view language;       // the only one; "": several
};

// Japanese first: it has Chinese characters beside its own.
constexpr std::array kScripts = {
    Script{"kana", R"([\p{Hiragana}\p{Katakana}])", "ja"},
    Script{"han", R"(\p{Han})", "zh"},
    Script{"hangul", R"(\p{Hangul})", "ko"},
    Script{"thai", R"(\p{Thai})", "th"},
    Script{"kannada", R"(\p{Kannada})", "kn"},
    Script{"gurmukhi", R"(\p{Gurmukhi})", "pa"},
    Script{"gujarati", R"(\p{Gujarati})", "gu"},
    Script{"telugu", R"(\p{Telugu})", "te"},
    Script{"tamil", R"(\p{Tamil})", "ta"},
    Script{"bengali", R"(\p{Bengali})", "bn"},
    Script{"malayalam", R"(\p{Malayalam})", "ml"},
    Script{"greek", R"(\p{Greek})", "el"},
    Script{"hebrew", R"(\p{Hebrew})", "he"},
    Script{"devanagari", R"(\p{Devanagari})", ""},
    Script{"arabic", R"(\p{Arabic})", ""},
    Script{"cyrillic", R"(\p{Cyrillic})", ""},
    Script{"latin", R"(\p{Latin})", ""},
};

struct Language {
  std::string_view code, script;
  std::string_view words;  // its most frequent, between spaces
  std::string_view own;    // letters that others of the script do not have, or hardly
};

constexpr std::array kLanguages = {
    Language{"en", "latin",
             " the of and to in is you that it he was for on are as with his they at be this have "
             "from or one had by but not what all were we when your can said there an which their "
             "if will how do out about who would them these so some her him has my me i ",
             ""},
    Language{"de", "latin",
             " der die das und ist in zu den nicht von sie ein eine ich mit sich auf für es dem "
             "auch als an wie im so aus bei hat nach wir werden einer um war noch wird oder aber "
             "kann wenn ihre ",
             "ßäöü"},
    Language{"fr", "latin",
             " le la les de des et est un une que qui dans en du pour pas sur au il elle avec ne "
             "se ce plus par je son mais nous vous ou sont cette être aux à ont leur ",
             "çêèàùœ"},
    Language{"es", "latin",
             " el la los las de que y en un una es se del con por para no su al lo como más pero "
             "sus le este sí porque esta son entre está cuando muy sin sobre también ser fue ",
             "ñ¿¡"},
    Language{"pt", "latin",
             " o a os as de que e do da em um uma para com não é se na no por mais dos das ao como "
             "mas foi ele seu sua ou ser quando muito há nos já está são você também pelo ",
             "ãõ"},
    Language{"it", "latin",
             " il la lo gli le di che e è un una in per con non del della dei delle si da al sono "
             "come più ma anche questo alla nel nella io ha mi ti cosa perché molto essere ",
             "ìò"},
    Language{"nl", "latin",
             " de het een en van ik te dat die in is niet zijn je op met voor er maar om aan hem "
             "als dan ook wat bij naar nog uit kan wordt deze door over ze worden ",
             "ĳ"},
    Language{"fi", "latin",
             " ja on ei se että oli hän mutta ovat kuin tai niin myös joka kun sen ole minä voi "
             "vain jos mitä tämä siitä ollut olla jotka ne tämän joita ",
             "äö"},
    Language{"sv", "latin",
             " och i att det som en på är av för med till den har de inte om ett han men var jag "
             "sig från vi så kan när eller hade ska vara där ",
             "åäö"},
    Language{"da", "latin",
             " og i at det som en på er af for med til den har de ikke om et han men var jeg sig "
             "fra vi så kan når eller havde skal være hvor der ",
             "æøå"},
    Language{"pl", "latin",
             " i w na z się nie do to że jest o jak po co ale dla od za przez tym czy oraz są "
             "który które która jego być może go ",
             "łżźśćńęą"},
    Language{"cs", "latin",
             " a je se v na to že s do o jako by si ale za pro po jsem ve jsou být od byl tak "
             "který které není ",
             "řůěšč"},
    Language{"ro", "latin",
             " și de în la a un o cu nu este pe care să din pentru că mai sunt sau ca se au fost "
             "fi această ",
             "șțăâî"},
    Language{"hu", "latin",
             " a az és hogy nem is egy ez van meg csak de ha mint volt vagy már még el lehet kell "
             "minden azt ",
             "őű"},
    Language{"tr", "latin",
             " ve bir bu da de için ile çok ne var daha gibi olarak ama o kadar ben sonra değil en "
             "mi ya olan ",
             "ğışç"},
    Language{"vi", "latin",
             " và của là có không được cho một trong với các này người những để đã khi tôi về như "
             "nhiều đến bạn từ ra cũng ",
             "ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"},
    Language{"id", "latin",
             " yang dan di itu dengan untuk tidak ini dari dalam akan pada saya ke karena juga ada "
             "adalah atau bisa anda kami mereka oleh ",
             ""},
    Language{"sw", "latin",
             " na ya wa kwa ni katika la za kuwa cha hii hiyo lakini pia kama wake au yake hivyo "
             "sana mimi wewe yeye sisi wao hapa ili kila moja watu baada huo vya ",
             ""},
    Language{"tl", "latin",
             " ang ng sa na mga ay at si ko mo ito niya para hindi kung may ako siya ni po din rin "
             "nang isang ",
             ""},
    Language{"so", "latin",
             " waa iyo ka oo ku la ee ayaa in soo uu si wax waxaa ah laakiin aan waxay inuu ", ""},
    Language{"hi", "devanagari",
             " के का की है में और से को हैं यह कि पर ने एक भी नहीं तो हो था इस लिए कर वह जो या आप मैं ही अपने "
             "थे साथ ",
             ""},
    Language{"mr", "devanagari",
             " आहे आणि या च्या ते हे तो मी की नाही एक होते होता आहेत त्या केले त्यांनी असे मध्ये साठी आम्ही तुम्ही "
             "पण काही माझ्या ",
             "ळ"},
    Language{"ne", "devanagari",
             " छ र हो को मा ले छन् यो पनि लाई तथा भएको गर्न थियो हुन्छ एक त्यो म गरेको हुन् भने तपाईं ", ""},
    Language{"ar", "arabic",
             " في من على أن إلى هذا التي الذي عن هو مع كان لا ما هذه أو قد ثم كل بعد ذلك بين وقد "
             "كما لم إن ",
             "ةىأإؤئ"},
    Language{"fa", "arabic",
             " و در به از که این را با است برای آن یک می ها بود خود تا کرد بر هم شد ", "پچژگ"},
    Language{"ur", "arabic",
             " کے کی ہے میں اور سے کا کو یہ اس ہیں پر نے کہ ایک بھی کر نہیں تھا ہو وہ ", "ٹڈڑںےہھ"},
    Language{"ru", "cyrillic",
             " и в не на что он с как это по но из у за то все так его для от было мы же вы или бы "
             "она они ",
             "ыэё"},
    Language{"uk", "cyrillic",
             " і в не на що з та до як це за у від але є по його для про або був вони ми ", "їєґі"},
    Language{"bg", "cyrillic",
             " и на да се в не за от с е по са като че до това или към ще при беше има след ", "ъ"},
    Language{"mk", "cyrillic",
             " и на да се во не за од со е по што како дека до тоа или кон ќе при беше има ",
             "ѓќѕџљњј"},
};

// Letters that run together.
std::vector<std::string_view> words_of(std::string_view text) {
  static const Regex kWord(R"([\p{L}\p{M}]+)");
  std::vector<std::string_view> words;
  for (const auto& match : kWord.find_all(text)) words.push_back(*match[0]);
  return words;
}

size_t letters_in(std::string_view text, const Regex& letters) {
  return letters.find_all(text).size();
}

// For each language its own letters, in either case; for one that has none what matches nothing.
const std::vector<Regex>& own_letters() {
  static const std::vector<Regex> kOwn = [] {
    std::vector<Regex> own;
    for (const Language& l : kLanguages)
      own.emplace_back(l.own.empty() ? "[^\\x00-\\x{10FFFF}]" : "(?i)[" + std::string(l.own) + "]");
    return own;
  }();
  return kOwn;
}

const std::vector<Regex>& script_letters() {
  static const std::vector<Regex> kLetters = [] {
    std::vector<Regex> letters;
    for (const Script& script : kScripts) letters.emplace_back(script.letters);
    return letters;
  }();
  return kLetters;
}

// The evidence for the language: one point per frequent word, and per letter of its own.
double points(const Language& language, const std::map<std::string, size_t>& counts,
              std::string_view text) {
  double sum = 0;
  for (const auto& [word, count] : counts) {
    if (language.words.find(" " + word + " ") != std::string_view::npos)
      sum += static_cast<double>(count);
  }
  const auto index = static_cast<size_t>(&language - kLanguages.data());
  sum += 0.5 * static_cast<double>(letters_in(text, own_letters()[index]));
  return sum;
}

std::string among(std::string_view script, std::string_view text) {
  std::map<std::string, size_t> counts;
  for (const std::string_view word : words_of(text)) {
    ++counts[ascii_lower(word)];
  }
  std::string_view best;
  double most = -1;
  for (const Language& language : kLanguages) {
    if (language.script != script) continue;
    const double here = points(language, counts, text);
    if (here > most) {
      most = here;
      best = language.code;
    }
  }
  return std::string(best);
}

}  // namespace

std::string detect_language(std::string_view text) {
  const Script* best = nullptr;
  size_t most = 0;
  for (size_t i = 0; i < kScripts.size(); ++i) {
    const Script& script = kScripts[i];
    // A few kana among many Chinese characters make a text Japanese.
    const size_t weight = script.name == "kana" ? 3 : 1;
    const size_t letters = weight * letters_in(text, script_letters()[i]);
    if (letters <= most) continue;
    most = letters;
    best = &script;
  }
  if (!best) return "";
  return best->language.empty() ? among(best->name, text) : std::string(best->language);
}

}  // namespace lewis
