// Runs before anything is painted, so that a chosen theme or language does not
// flash the other one first. The keys are those of src/settings.ts.
;(function () {
  try {
    var root = document.documentElement
    var theme = localStorage.getItem('holdline.theme')
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme
    var lang = localStorage.getItem('holdline.lang')
    if (lang) root.lang = lang
  } catch {
    // storage is switched off: the system's theme and the browser's language it is
  }
})()
