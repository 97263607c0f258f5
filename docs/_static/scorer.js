// Questions come first: a search whose words stand in a question of the FAQ finds that question.
// Sphinx copies this file into the script behind its own search code, which defines Search and reads Scorer.
var Scorer = {
  score: ([docname, , anchor, , score, , kind]) => (docname === "faq" && kind === "title" && anchor ? score + 200 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

(() => {
  const search = Search._performSearch;
  const unsaid = new Set(["how", "do", "i", "it", "my", "can", "what", "why", "is", "does", "when"]);
  const wordsOf = (text) => {
    const stemmer = new Stemmer();
    const words = splitQuery(text.toLowerCase()).filter((word) => !stopwords.has(word) && !unsaid.has(word));
    return new Set(words.map((word) => stemmer.stemWord(word)));
  };

  // Sphinx compares a query with a heading as one text. This compares their words.
  const questions = (query) => {
    const wanted = wordsOf(query);
    const { alltitles, docnames, filenames, titles } = Search._index;
    const found = [];
    for (const [title, places] of Object.entries(alltitles)) {
      const words = wordsOf(title);
      const both = [...wanted].filter((word) => words.has(word)).length;
      for (const [file, id] of places) {
        if (docnames[file] === "faq" && id !== null && both >= Math.max(1, (wanted.size * 2) / 3)) {
          const score = both / wanted.size + both / words.size;
          found.push([docnames[file], `${titles[file]} > ${title}`, `#${id}`, null, score, filenames[file], SearchResultKind.title]);
        }
      }
    }
    return found.sort((one, other) => one[4] - other[4]);
  };

  Search._performSearch = (query, ...terms) => {
    const added = questions(query);
    const places = new Set(added.map((result) => result[0] + result[2]));
    const results = search(query, ...terms).filter((result) => !places.has(result[0] + result[2]));
    return [...results, ...added]; // the last one is shown first
  };
})();
